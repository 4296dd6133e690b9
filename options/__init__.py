"""Option classes: every option is declared here, or by the model or data set it belongs to."""
from options.data_options import CheckOptions, PhantomOptions
from options.evaluate_options import EvaluateOptions
from options.experiment_options import ExperimentOptions
from options.export_options import ExportOptions
from options.import_options import ImportOptions
from options.predict_options import PredictOptions
from options.test_options import TestOptions
from options.train_options import TrainOptions
from options.translate_options import TranslateOptions

__all__ = ["CheckOptions", "EvaluateOptions", "ExperimentOptions", "ExportOptions", "ImportOptions", "PhantomOptions",
           "PredictOptions", "TestOptions", "TrainOptions", "TranslateOptions"]
