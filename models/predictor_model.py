"""The predictor alone: a network that reads the label from target images, real ones and translated ones alike."""
import torch

from models import networks, prediction
from models.base_model import BaseModel


class PredictorModel(BaseModel):
    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser.set_defaults(dataset_mode="labelled", input_nc=1, output_nc=1)
        prediction.add_options(parser)
        if is_train:
            # The paper's settings for the predictor trained on the mixture: Adam, 100 epochs at 1e-4, batches of 64.
            parser.set_defaults(batch_size=64, lr=1e-4, beta1=0.9, n_epochs=100, n_epochs_decay=0)
            parser.add_argument("--weight_decay", type=float, default=0.0, help="L2 penalty in Adam")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.loss_names, self.visual_names, self.model_names = ["P"], ["real_B"], ["P"]
        prediction.refuse_without_labels(opt, "add a labels.csv, or --extra folders that have one")
        prediction.check_crop(opt)
        self.netP = prediction.make_predictor(opt, opt.output_nc).to(self.device)
        if self.isTrain:
            self.criterionP = networks.PredictionLoss(opt.task, opt.loss_P).to(self.device)
            self.optimizer_P = torch.optim.Adam(self.netP.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999),
                                                weight_decay=opt.weight_decay, fused=True)
            self.optimizers = [self.optimizer_P]

    def set_input(self, input):             # noqa: A002
        self.real_B = input["B"].to(self.device, non_blocking=True)
        self.label_B = input["B_label"].to(self.device, non_blocking=True)
        self.image_paths = input["B_paths"]

    def forward(self):
        self.answer = self.netP(self.real_B)

    def optimize_parameters(self):
        self.forward()
        self.optimizer_P.zero_grad()
        self.loss_P = self.criterionP(self.answer, self.label_B)
        self.loss_P.backward()
        self.optimizer_P.step()

    def validate(self, dataset):
        return prediction.validate(self.netP, dataset, self.opt.task, self.device)

    def predictor(self):
        """The network that reads the label from target images."""
        return self.netP
