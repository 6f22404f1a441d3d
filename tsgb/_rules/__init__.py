"""What each operation of a network sends back, for each family of methods.

``state`` holds what is known of an activation and of a rule's autograd node; ``rule_set`` says what
a table of rules is and what every method refuses. TSGB's table is ``tsgb_rules``, made of
``elementwise``, ``convolution``, ``pooling`` and ``classifier``; ``ports`` are its short cuts.
``guided`` and ``relevance`` are the tables of the other methods. Nothing here runs a network: that
is :mod:`tsgb._engine`, which builds on this package.
"""
