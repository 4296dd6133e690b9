"""Option classes: every option is declared here, or by the model or data set it belongs to."""
from duiit.options.data_options import CheckOptions, PhantomOptions
from duiit.options.evaluate_options import EvaluateOptions
from duiit.options.experiment_options import ExperimentOptions
from duiit.options.export_options import ExportOptions
from duiit.options.import_options import ImportOptions
from duiit.options.predict_options import PredictOptions
from duiit.options.test_options import TestOptions
from duiit.options.train_options import TrainOptions
from duiit.options.translate_options import TranslateOptions

__all__ = ["CheckOptions", "EvaluateOptions", "ExperimentOptions", "ExportOptions", "ImportOptions", "PhantomOptions",
           "PredictOptions", "TestOptions", "TrainOptions", "TranslateOptions"]
