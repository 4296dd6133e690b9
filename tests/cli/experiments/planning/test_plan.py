"""What a plan says of its trainings, also where an earlier version made it."""
import json

from duiit.options import ExperimentOptions
from duiit_cli.experiments.planning import methods, plan


def planned(phantom, output, *words):
    opt = ExperimentOptions().parse([f"--dataroot={phantom}", f"--output={output}", "--methods=pure_ct", "--splits=1",
                                     "--device=cpu", *words])
    chosen, _ = methods.choose(opt.methods, plan.sources_of(opt), opt.dataroot, opt.target, [])
    return plan.Plan(opt, chosen)


def said(whole):
    return {w for task in whole.tasks.values() for w in task.words if w.startswith("--val_by")}


def test_validation_is_by_what_the_split_is_by(phantom, tmp_path):
    assert said(planned(phantom, tmp_path)) == {"--val_by=patient"}
    assert said(planned(phantom, tmp_path, "--split_by=image")) == {"--val_by=image"}
    assert said(planned(phantom, tmp_path, "--val_by=image")) == {"--val_by=image"}


def test_an_experiment_from_before_there_was_a_choice_goes_on_by_image(phantom, tmp_path):
    whole = planned(phantom, tmp_path)
    whole.write()
    tasks = json.loads((tmp_path / plan.NAME).read_text())
    for task in tasks:
        task["words"] = [w for w in task["words"] if not w.startswith("--val_by")]
    (tmp_path / plan.NAME).write_text(json.dumps(tasks))
    for _ in range(2):                                      # and so does what is planned anew
        again = planned(phantom, tmp_path)
        assert said(again) == {"--val_by=image"}
        again.check()
        again.write()
