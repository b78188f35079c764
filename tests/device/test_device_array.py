"""The double itself refuses implicit copies to the host, and nothing else."""

import copy
import pickle

import numpy
import pytest
import torch
from device_array import DeviceArray, DeviceTensor, xp
from numpy.testing import assert_array_equal
from thinc.api import get_array_module, get_current_ops, to_numpy
from thinc.backends import get_array_ops
from thinc.util import is_cupy_array, xp2torch

from spacy_skd.losses import tensors
from spacy_skd.structures import ChainScores

HOST = numpy.arange(6, dtype="f").reshape(2, 3)
INDEX = numpy.array([0, 1])


@pytest.fixture
def array(double):
    return xp.asarray(HOST)


@pytest.mark.parametrize(
    "operation",
    [
        lambda a: numpy.asarray(a),
        lambda a: numpy.array(a),
        lambda a: numpy.array([a, a]),
        lambda a: numpy.asarray(a, dtype="f"),
        lambda a: numpy.ascontiguousarray(a),
        lambda a: numpy.concatenate([a, a]),
        lambda a: numpy.where(a, 1, 0),
        lambda a: numpy.exp(a),
        lambda a: numpy.add(HOST, a),
        lambda a: numpy.sum(a),
        lambda a: numpy.zeros((2, 3)).__setitem__(slice(None), a),
        lambda a: HOST[a[0, 0].astype("i")],
        lambda a: HOST + a,
        lambda a: a + HOST,
        lambda a: HOST * a,
        lambda a: a @ HOST.T,
        lambda a: a > HOST,
        lambda a: a == HOST,
        lambda a: a.__iadd__(HOST),
        lambda a: a[INDEX],
        lambda a: a[:, INDEX],
        lambda a: a[HOST > 1],
        lambda a: a.__setitem__(INDEX, 0),
        lambda a: a.__setitem__(0, HOST[0]),
        lambda a: xp.where(HOST > 1, a, 0),
        lambda a: xp.where(a > 1, HOST, 0),
        lambda a: xp.matmul(a, HOST.T),
        lambda a: xp.concatenate([a, HOST]),
        lambda a: xp.add(a, a, out=HOST.copy()),
        lambda a: xp.ascontiguousarray(HOST),
        lambda a: get_current_ops().gemm(a, HOST, trans2=True),
        lambda a: float(a[0, 0]),
        lambda a: int(a[0, 0]),
        lambda a: bool(a.any()),
        lambda a: 1 if a[0, 0] else 0,
        lambda a: range(6)[a[0, 0].astype("i")],
        lambda a: list(a),
        lambda a: [row for row in a],
        lambda a: sum(a[0]),
        lambda a: max(a[0, 0], a[0, 1]),
        lambda a: 1 in a,
        lambda a: a.tolist(),
        lambda a: a.item(),
        lambda a: a.tobytes(),
        lambda a: memoryview(a),
        lambda a: torch.tensor(a),
        lambda a: torch.from_numpy(a),
        lambda a: pickle.dumps(a),
    ],
)
def test_implicit_copies_to_the_host_are_refused(array, operation):
    with pytest.raises(TypeError):
        operation(array)


def test_functions_that_cupy_lacks_are_missing(double):
    with pytest.raises(AttributeError):
        _ = xp.block


def test_computes_on_the_device(array):
    index = xp.asarray(INDEX)
    for computed, expected in [
        (array + 1, HOST + 1),
        (numpy.float32(2) * array, 2 * HOST),
        (1 - array, 1 - HOST),
        (array @ array.T, HOST @ HOST.T),
        (array[index, index], HOST[INDEX, INDEX]),
        (array[:, None, :2], HOST[:, None, :2]),
        (array[array > 1], HOST[HOST > 1]),
        (array.sum(), HOST.sum()),
        (array.argmax(axis=1), HOST.argmax(axis=1)),
        (array.transpose(1, 0), HOST.T),
        (xp.where(array > 1, array, -xp.inf), numpy.where(HOST > 1, HOST, -numpy.inf)),
        (xp.concatenate([array, array]), numpy.concatenate([HOST, HOST])),
        (xp.split(array, INDEX + 1)[1], HOST[1:2]),
    ]:
        assert type(computed) is DeviceArray
        assert_array_equal(to_numpy(computed), expected)
        assert computed.dtype == numpy.asarray(expected).dtype


def test_changes_in_place(array):
    row = array[0]
    row += 1
    array[1, xp.asarray(INDEX)] = 7
    xp.add(array, array, out=array)
    assert_array_equal(array.get(), [[2, 4, 6], [14, 14, 10]])
    assert_array_equal(HOST[0], [0, 1, 2])


def test_explicit_copies_are_allowed(array, double):
    assert_array_equal(to_numpy(array), HOST)
    assert_array_equal(double.to_numpy(array), HOST)
    assert_array_equal(copy.deepcopy(array).get(), HOST)
    tensor = xp2torch(array, device=torch.device("meta"))
    assert isinstance(tensor, DeviceTensor)
    assert_array_equal(tensors.torch2xp(tensor).get(), HOST)


def test_thinc_takes_the_double_for_a_gpu(array, double):
    assert is_cupy_array(array) and not isinstance(array, numpy.ndarray)
    assert get_array_module(array) is xp and type(get_array_ops(array)) is type(double)


@pytest.mark.parametrize(
    "operation",
    [
        lambda t: t + torch.ones(3),
        lambda t: t.index_select(0, torch.tensor([0])),
        lambda t: torch.cat([t, torch.ones(1, 3)]),
        lambda t: torch.ones(2, 3).mul_(t),
        lambda t: t.gather(0, torch.tensor([[0]])),
        lambda t: t.numpy(),
        lambda t: t[:, 0] + torch.tensor([1.0, 2.0]),
        lambda t: torch.where(torch.ones(3, dtype=torch.bool), t, t),
    ],
)
def test_tensors_of_the_host_are_refused(double, operation):
    with pytest.raises((RuntimeError, TypeError)):
        operation(torch.ones(2, 3, device="meta"))


def test_tensors_compute_on_the_device(double):
    x = torch.tensor([1.0, 2.0, 3.0], device="meta").requires_grad_()
    index = torch.tensor([0, 2]).to("meta")
    y = x.double().index_select(0, index)
    z = torch.zeros(3, dtype=torch.float64, device="meta")
    z[index] = y * torch.tensor(2.0)
    loss = (z[z > 0].square().sum() * torch.eye(2, device="meta")).sum()
    assert isinstance(loss, DeviceTensor)
    (gradient,) = torch.autograd.grad(loss, x)
    assert float(loss.detach()) == pytest.approx(2 * (4 + 36))
    assert_array_equal(gradient.cpu().numpy(), [16, 0, 48])


def test_a_loss_s_gradient_stays_on_the_device(double):
    def scores(*shape):
        return xp.asarray(numpy.ones(shape, dtype="f"))

    chain = ChainScores(scores(2, 3), scores(3, 3), scores(3), scores(3), [2])
    loss, gradient = tensors.differentiate(lambda t: t.emissions.square().sum(), chain)
    assert loss == 6 and type(gradient.emissions) is type(gradient.end) is DeviceArray
    assert_array_equal(gradient.emissions.get(), numpy.full((2, 3), 2))
    assert not gradient.end.get().any()
