import copy

import pytest
import torch
from torch.nn.functional import log_softmax

from bitnet.distillation import RecoveryLoss, divergence, state_distance, token_losses
from bitnet.errors import BitnetError
from tests.bitnet.small_models import small_model

BATCH = torch.arange(24).reshape(3, 8) % 60 + 2


def models():
    """A student and a teacher that differ."""
    teacher, student = small_model("llama"), small_model("llama")
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.1)
    return student, teacher


def value(loss, student):
    with torch.no_grad():
        return float(loss(student, BATCH))


def logits(model):
    with torch.no_grad():
        return model(input_ids=BATCH).logits.double()


def test_cross_entropy_scores_all_tokens_but_the_first():
    model = models()[0]
    logprobs = log_softmax(logits(model), dim=-1)
    expected = -sum(float(logprobs[row, i, BATCH[row, i + 1]]) for row in range(3) for i in range(7)) / 21
    assert value(RecoveryLoss(), model) == pytest.approx(expected, rel=1e-5)
    assert token_losses(logits(model), BATCH).shape == (21,)


def test_divergence_is_that_of_the_student_from_the_teacher():
    student, teacher = models()
    ours, theirs = (log_softmax(logits(model), dim=-1) for model in (student, teacher))
    expected = float((theirs.exp() * (theirs - ours)).sum(dim=-1).mean())
    assert expected > 0
    assert value(RecoveryLoss(teacher, distillation=1.0), student) == pytest.approx(expected, rel=1e-4)
    assert float(divergence(ours, theirs)) != pytest.approx(float(divergence(theirs, ours)), rel=1e-3)


def test_the_slope_of_divergence_is_the_derivative():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda ours: 3 * divergence(ours, teacher), student.requires_grad_())


def test_divergence_does_not_depend_on_how_positions_are_parted(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 50, 7, generator=generator) for _ in range(2))
    results = []
    for positions in (1, 64, 1000):
        monkeypatch.setattr("bitnet.distillation.POSITIONS", positions)
        ours = student.clone().requires_grad_()
        loss = divergence(ours, teacher)
        loss.backward()
        results.append((loss.detach(), ours.grad))
    for loss, slope in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        torch.testing.assert_close(slope, results[0][1])


def test_bfloat16_logits_get_bfloat16_slopes_of_a_float32_divergence():
    generator = torch.Generator().manual_seed(0)
    exact, teacher = (torch.randn(2, 9, 33, generator=generator) for _ in range(2))
    student = exact.bfloat16().requires_grad_()
    loss = divergence(student, teacher)
    loss.backward()
    assert loss.dtype == torch.float32
    same = exact.bfloat16().float().requires_grad_()
    expected = divergence(same, teacher)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(student.grad, same.grad.bfloat16())


def test_parts_are_weighed():
    student, teacher = models()
    ce, kl = (value(RecoveryLoss(teacher, distillation=d), student) for d in (0.0, 1.0))
    hidden = value(RecoveryLoss(teacher, hidden=1.0), student) - ce
    assert hidden > 0
    mixed = value(RecoveryLoss(teacher, distillation=0.25, hidden=2.0), student)
    assert mixed == pytest.approx(0.75 * ce + 0.25 * kl + 2 * hidden, rel=1e-5)


def test_a_student_that_equals_its_teacher_diverges_by_nothing():
    teacher = models()[1]
    loss = RecoveryLoss(teacher, distillation=1.0, hidden=1.0)
    assert value(loss, copy.deepcopy(teacher)) == pytest.approx(0.0, abs=1e-6)


def test_hidden_states_are_compared_in_units_of_the_teachers():
    states = (torch.ones(1, 2, 4), 100 * torch.ones(1, 2, 4))
    off_by_a_tenth = tuple(1.1 * state for state in states)
    assert float(state_distance(off_by_a_tenth, states)) == pytest.approx(0.01, rel=1e-4)


def test_gradients_reach_the_student_alone():
    student, teacher = models()
    RecoveryLoss(teacher, distillation=0.5, hidden=1.0)(student, BATCH).backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("parts", [{"distillation": 0.1}, {"hidden": 0.1}])
def test_without_a_teacher_nothing_is_distilled(parts):
    with pytest.raises(BitnetError, match="needs the full-precision model"):
        RecoveryLoss(**parts)
