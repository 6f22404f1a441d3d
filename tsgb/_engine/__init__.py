"""One forward pass under observation, and the gradients of what it left.

``forward_pass`` runs the network once, or twice if the first pass recorded too little, and gives
back a ``forward.Forward``. ``interception`` answers every torch call of that pass with a rule, with
the help of ``torch_calls`` (what a call says), ``inplace`` (tensors that were overwritten),
``spatial_dims`` (where the pixels are) and ``observed`` (feature maps met on the way). ``head``
finds the classifier, ``sweeps`` takes the gradients of several classes.
"""
