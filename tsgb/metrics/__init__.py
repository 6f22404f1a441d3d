"""Metrics of saliency maps: localisation, faithfulness, sanity. Functions of tensors."""

from tsgb.metrics._perturbation import Curve as Curve
from tsgb.metrics.confidence import average_drop as average_drop
from tsgb.metrics.confidence import average_increase as average_increase
from tsgb.metrics.faithfulness import blur as blur
from tsgb.metrics.faithfulness import deletion as deletion
from tsgb.metrics.faithfulness import insertion as insertion
from tsgb.metrics.faithfulness import removal_curve as removal_curve
from tsgb.metrics.imputation import noisy_linear_imputation as noisy_linear_imputation
from tsgb.metrics.imputation import road as road
from tsgb.metrics.localisation import ClassMean as ClassMean
from tsgb.metrics.localisation import ClassScores as ClassScores
from tsgb.metrics.localisation import boxes_to_mask as boxes_to_mask
from tsgb.metrics.localisation import energy_pointing_game as energy_pointing_game
from tsgb.metrics.localisation import iou_at_threshold as iou_at_threshold
from tsgb.metrics.localisation import pointing_game as pointing_game
from tsgb.metrics.sanity import Similarity as Similarity
from tsgb.metrics.sanity import cascading_randomisation as cascading_randomisation
from tsgb.metrics.sanity import label_randomisation as label_randomisation
from tsgb.metrics.sanity import spearman as spearman
