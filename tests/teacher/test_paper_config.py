"""configs/paper.cfg: the setting of Lin et al. 2022."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import spacy
from spacy import util
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from thinc.api import torch2xp

CONFIG = Path(__file__).parents[2] / "configs" / "paper.cfg"


def test_a_student_that_is_the_teacher_s_encoder_cut_to_its_first_layers(
    gold: SimpleNamespace, corpus: Path, tmp_path: Path
) -> None:
    pytest.importorskip("spacy_transformers")
    from transformers import AutoModel

    bert = tmp_path / "bert"
    bert.mkdir()
    gold.save_bert(bert, 4)
    bio = gold.cnn.replace('scheme = "BILUO"', 'scheme = "BIO"')
    gold.make_cnn(gold.docs, 3, bio).to_disk(tmp_path / "teacher")
    overrides = {
        "paths.train": str(corpus / "train.spacy"),
        "paths.dev": str(corpus / "dev.spacy"),
        "paths.teacher": str(tmp_path / "teacher"),
        "paths.transformer": str(bert),
        "training.max_steps": 2,
        "training.eval_frequency": 1,
    }
    nlp = init_nlp(util.load_config(CONFIG, overrides, interpolate=False))
    encoder = nlp.get_pipe("transformer").model.transformer
    assert encoder.config.num_hidden_layers == len(encoder.encoder.layer) == 3
    pretrained = AutoModel.from_pretrained(bert)
    for ours, theirs in zip(encoder.encoder.layer, pretrained.encoder.layer):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert (torch2xp(a.detach()) == torch2xp(b.detach())).all()
    ner = nlp.get_pipe("ner")
    assert vars(ner.distillation) == {"transitions": False, "center": False, "label_heads": 4}
    assert (ner.scheme.name, ner.distillation_weight) == ("BIO", 0.02)
    (tmp_path / "student").mkdir()
    train(nlp, tmp_path / "student")
    assert spacy.load(tmp_path / "student" / "model-last").get_pipe("ner").scheme.name == "BIO"
