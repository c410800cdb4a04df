"""Model: what it says of itself, what it takes, and what it gives back."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import assert_close, batch, onnxruntime_run, proto, small_resnet
from onnx import helper, numpy_helper

import nbcnn
from nbcnn import model as model_module
from nbcnn.errors import InputError, ModelError, NbcnnError, UnsupportedError
from nbcnn.onnx_io import to_proto
from nbcnn.zoo import graph_of

RNG = np.random.default_rng(0)


def two_branches(n: int | str = "N") -> onnx.ModelProto:
    """a (n, 3, 6, 5), b (n, 4) -> scores (n, 4), pixels (n, 2, 4, 3)."""
    arrays = {
        "w": RNG.standard_normal((2, 3, 3, 3)).astype(np.float32),
        "v": RNG.standard_normal((24, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["a", "w"], ["pixels"], "conv"),
        helper.make_node("Flatten", ["pixels"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "v"], ["product"], "gemm"),
        helper.make_node("Add", ["product", "b"], ["scores"], "add"),
    ]
    return proto(nodes, {"a": [n, 3, 6, 5], "b": [n, 4]}, {"scores": [n, 4], "pixels": [n, 2, 4, 3]}, arrays)


@pytest.fixture(scope="module")
def branches() -> onnx.ModelProto:
    return two_branches()


@pytest.fixture(scope="module")
def model(branches: onnx.ModelProto) -> nbcnn.Model:
    return nbcnn.load(branches)


def feeds(n: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "a": rng.standard_normal((n, 3, 6, 5)).astype(np.float32),
        "b": rng.standard_normal((n, 4)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def lenet() -> nbcnn.Model:
    return nbcnn.zoo.lenet()


# --- what it is


def test_ports(model: nbcnn.Model) -> None:
    assert [(p.name, p.dtype, p.shape) for p in model.inputs] == [
        ("a", "float32", ("N", 3, 6, 5)),
        ("b", "float32", ("N", 4)),
    ]
    assert [(p.name, p.shape) for p in model.outputs] == [("scores", ("N", 4)), ("pixels", ("N", 2, 4, 3))]


def test_initializers_that_are_listed_as_inputs_need_not_be_fed() -> None:
    old = two_branches()
    for tensor in old.graph.initializer:
        old.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model = nbcnn.load(old)
    assert [p.name for p in model.inputs] == ["a", "b"]
    with pytest.raises(InputError, match="no input 'w'"):
        model.run(None, {**feeds(), "w": np.zeros((2, 3, 3, 3), np.float32)})


@pytest.mark.parametrize("kind", ["path", "string", "bytes", "proto"])
def test_load_takes(kind: str, branches: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(branches, path)
    source = {"path": path, "string": str(path), "bytes": path.read_bytes(), "proto": branches}[kind]
    loaded = nbcnn.load(source)
    assert [p.name for p in loaded.inputs] == ["a", "b"] and set(loaded.parameters) == {"w", "v"}


# --- running


def test_run_agrees_with_onnxruntime(model: nbcnn.Model, branches: onnx.ModelProto) -> None:
    for got, want in zip(model.run(None, feeds()), onnxruntime_run(branches, feeds()), strict=True):
        assert got.dtype == want.dtype
        assert_close(got, want)


def test_outputs_by_name_in_the_order_asked_for(model: nbcnn.Model, branches: onnx.ModelProto) -> None:
    scores, pixels = onnxruntime_run(branches, feeds())
    got = model.run(["pixels", "scores", "pixels"], feeds())
    for array, want in zip(got, [pixels, scores, pixels], strict=True):
        assert_close(array, want)


def test_values_inside_the_network_can_be_asked_for(model: nbcnn.Model, branches: onnx.ModelProto) -> None:
    scores, pixels = onnxruntime_run(branches, feeds())
    flat, product = model.run(["flat", "product"], feeds())
    assert_close(flat, pixels.reshape(2, -1))
    assert_close(product, scores - feeds()["b"])


def test_calling_needs_one_input_and_one_output(model: nbcnn.Model, lenet: nbcnn.Model) -> None:
    x, _ = batch((3, 1, 28, 28), 10)
    np.testing.assert_array_equal(lenet(x), lenet.run(None, {"input": x})[0])
    with pytest.raises(InputError, match=r"one input and one output; this one has .*'a', 'b'.* use run"):
        model(x)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda x: x.tolist(), id="lists"),
        pytest.param(lambda x: x.astype(np.float64), id="float64"),
        pytest.param(lambda x: x.astype(">f4"), id="big endian"),
        pytest.param(np.asfortranarray, id="column major"),
        pytest.param(lambda x: np.repeat(x, 2, axis=3)[:, :, :, ::2], id="every other column"),
        pytest.param(lambda x: x[:, :, ::-1].copy()[:, :, ::-1], id="negative strides"),
    ],
)
def test_inputs_in_any_form(given: object, lenet: nbcnn.Model) -> None:
    x, _ = batch((2, 1, 28, 28), 10)
    np.testing.assert_array_equal(lenet(given(x)), lenet(x))  # type: ignore[operator]


def test_the_input_is_not_changed(lenet: nbcnn.Model) -> None:
    x, _ = batch((2, 1, 28, 28), 10)
    before = x.copy()
    x.flags.writeable = False
    lenet(x)
    np.testing.assert_array_equal(x, before)


def test_returned_arrays_are_the_callers(model: nbcnn.Model) -> None:
    first = model.run(None, feeds(seed=1))
    kept = [a.copy() for a in first]
    second = model.run(None, feeds(seed=2))
    for array, want in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, want)  # a later run leaves them alone
    for array in (*first, *second):
        assert array.flags.owndata and array.flags.writeable and array.flags.c_contiguous
        array.fill(np.nan)
    for array, want in zip(model.run(None, feeds(seed=1)), kept, strict=True):
        np.testing.assert_array_equal(array, want)  # what the caller does to them harms nothing


def test_an_output_that_is_an_input_or_a_weight_is_a_copy() -> None:
    arrays = {"w": np.arange(3, dtype=np.float32)}
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["w"], ["z"])]
    model = nbcnn.load(proto(nodes, {"x": ["N", 3]}, {"y": ["N", 3], "z": [3]}, arrays))
    x = np.ones((2, 3), np.float32)
    y, z = model.run(None, {"x": x})
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(z, arrays["w"])
    z.fill(7)
    y.fill(7)
    np.testing.assert_array_equal(model.run(["z"], {"x": x})[0], arrays["w"])
    assert (x == 1).all()


# --- any batch size


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_batch_size_that_the_file_froze_is_free(n: int) -> None:
    """onnxruntime refuses other sizes, so it gets the same network with a free batch."""
    frozen, free = two_branches(1), two_branches("N")
    for mine, theirs in zip(free.graph.initializer, frozen.graph.initializer, strict=True):
        mine.CopyFrom(theirs)
    for got, want in zip(nbcnn.load(frozen).run(None, feeds(n)), onnxruntime_run(free, feeds(n)), strict=True):
        assert_close(got, want)


def reshaping(target: list[int]) -> nbcnn.Model:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], "to rows")]
    return nbcnn.load(proto(nodes, {"x": [1, 2, 3]}, {"y": [1, 6]}, {"shape": np.array(target, np.int64)}))


@pytest.mark.parametrize("target", [[-1, 6], [0, 6], [0, -1]])
def test_a_reshape_that_keeps_the_batch(target: list[int]) -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    np.testing.assert_array_equal(reshaping(target)(x), x.reshape(4, 6))


def test_a_reshape_that_hard_codes_the_batch_is_named() -> None:
    model = reshaping([1, 6])
    assert model(np.zeros((1, 2, 3), np.float32)).shape == (1, 6)
    with pytest.raises(ModelError, match=r"Reshape 'to rows'.*(batch|first dimension)") as error:
        model(np.zeros((4, 2, 3), np.float32))
    assert "\n" not in str(error.value)


# --- wrong inputs: one line each


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"c": np.zeros(3)}, ["no input 'c'", "'a', 'b'"]),
        ({"a": None}, ["'a'", "not an array of numbers"]),
        ({"a": np.zeros((2, 3, 6), np.float32)}, ["'a'", "[2, 3, 6]", "'N', 3, 6, 5"]),
        ({"a": np.zeros((2, 4, 6, 5), np.float32)}, ["'a'", "[2, 4, 6, 5]"]),
        ({"a": np.zeros((0, 3, 6, 5), np.float32)}, ["'a'", "empty"]),
        ({"a": np.zeros((2, 3, 6, 5), np.int64)}, ["'a'", "int64", "float32"]),
        ({"a": np.zeros((2, 3, 6, 5), complex)}, ["'a'", "complex128"]),
        ({"a": [[1.0, 2.0], [3.0]]}, ["'a'", "rows"]),
        ({"a": "picture.png"}, ["'a'", "not an array of numbers"]),
    ],
)
def test_wrong_feeds(wrong: dict[str, object], words: list[str], model: nbcnn.Model) -> None:
    with pytest.raises(InputError) as error:
        model.run(None, {**feeds(), **wrong})
    message = str(error.value)
    assert all(word in message for word in words) and "\n" not in message, message


def test_arguments_of_the_wrong_kind(model: nbcnn.Model, branches: onnx.ModelProto) -> None:
    for given in ([feeds()["a"]], None):
        with pytest.raises(InputError, match=r"feeds takes arrays by name, .* \['a', 'b'\], not"):
            model.run(None, given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"a list of names, such as \['scores'\], or None"):
        model.run("scores", feeds())
    for source in (None, 3):
        with pytest.raises(InputError, match="a model is the path of an ONNX file"):
            nbcnn.load(source)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="saved to a path, not to a NoneType"):
        model.save(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"inputs are arrays by name, such as \{'a': x\}, not a ndarray"):
        nbcnn.validate(branches, feeds()["a"])  # type: ignore[arg-type]


def test_missing_input_and_unknown_output(model: nbcnn.Model) -> None:
    with pytest.raises(InputError, match=r"input 'b' is not fed; this network takes \['a', 'b'\]"):
        model.run(None, {"a": feeds()["a"]})
    with pytest.raises(InputError, match=r"no output 'logits'; this network gives \['scores', 'pixels'\]"):
        model.run(["logits"], feeds())
    with pytest.raises(InputError, match="float16"):
        nbcnn.load(two_branches(), dtype="float16")


def test_batches_that_contradict_each_other(model: nbcnn.Model) -> None:
    with pytest.raises(NbcnnError, match="add") as error:
        model.run(None, {"a": feeds(3)["a"], "b": feeds(2)["b"]})
    assert "\n" not in str(error.value)


def test_unsupported_operators_are_listed_all_at_once() -> None:
    nodes = [
        helper.make_node("Bernoulli", ["x"], ["p"], "where"),
        helper.make_node("Relu", ["x"], ["q"], "fine"),
        helper.make_node("Tokenizer", ["q"], ["r"], "words", domain="org.example"),
        helper.make_node("Det", ["x"], ["y"]),
    ]
    source = proto(nodes, {"x": [2, 2]}, {"y": []}, {})
    source.opset_import.append(helper.make_opsetid("org.example", 1))
    model = nbcnn.load(source.SerializeToString())
    with pytest.raises(UnsupportedError) as error:
        model(np.eye(2, dtype=np.float32))
    message = str(error.value)
    assert all(word in message for word in ("Bernoulli 'where'", "Tokenizer 'words'", "Det (of 'y')")), message
    assert "fine" not in message and "\n" not in message


# --- threads


def test_eight_threads_call_two_models(model: nbcnn.Model, branches: onnx.ModelProto, lenet: nbcnn.Model) -> None:
    """Different batches and sizes, so that plans and their shared memory change hands all the time."""
    digits = [batch((1 + k % 3, 1, 28, 28), 10, seed=k)[0] for k in range(8)]
    wanted_digits = [onnxruntime_run(to_proto(lenet.graph), {"input": x})[0] for x in digits]
    wanted = [onnxruntime_run(branches, feeds(1 + k % 3, seed=k)) for k in range(8)]
    wrong: list[str] = []
    gate = threading.Barrier(8)

    def work(k: int) -> None:
        gate.wait()
        for _ in range(10):
            try:
                assert_close(lenet(digits[k]), wanted_digits[k], 1e-4)
                for got, want in zip(model.run(None, feeds(1 + k % 3, seed=k)), wanted[k], strict=True):
                    assert_close(got, want)
            except Exception as error:  # a thread's failure must reach the test
                wrong.append(f"thread {k}: {error}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]


def test_results_do_not_depend_on_the_number_of_threads(lenet: nbcnn.Model) -> None:
    x, _ = batch((33, 1, 28, 28), 10)
    before = nbcnn.get_num_threads()
    try:
        nbcnn.set_num_threads(1)
        one = lenet(x)
        nbcnn.set_num_threads(before)
        np.testing.assert_array_equal(lenet(x), one)
    finally:
        nbcnn.set_num_threads(before)


@pytest.mark.parametrize("count", [0, -1, 10**6, 1.5, "two"])
def test_wrong_numbers_of_threads(count: object) -> None:
    with pytest.raises(InputError, match=r"set_num_threads.*1 to"):
        nbcnn.set_num_threads(count)  # type: ignore[arg-type]


# --- plans


def test_the_cache_of_plans_is_bounded(model: nbcnn.Model, branches: onnx.ModelProto) -> None:
    first = model.plan(feeds(1))
    assert model.plan(feeds(1)) is first
    for n in range(1, model_module.PLANS_KEPT + 4):
        got, want = model.run(["scores"], feeds(n))[0], onnxruntime_run(branches, feeds(n))[0]
        assert_close(got, want, 1e-4)
        assert max(len(model._plans), len(model._needs)) <= model_module.PLANS_KEPT
    assert model.plan(feeds(1)) is not first


def test_float64_is_computed_in_float64() -> None:
    """Against a product in NumPy whose exact result float32 cannot hold."""
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    w = np.array([[1.0], [1.0]])
    source = proto(nodes, {"x": ["N", 2]}, {"y": ["N", 1]}, {"w": w}, kind=onnx.TensorProto.DOUBLE)
    x = np.array([[1.0, 1e-12]])
    assert nbcnn.load(source, dtype="float64")(x)[0, 0] == 1.0 + 1e-12
    assert nbcnn.load(source)(x).dtype == np.float64  # the file's type, though computed in float32


def test_zoo_models_have_no_file() -> None:
    model = nbcnn.Model(graph_of("mlp"))
    assert model.source == "" and "mlp" in repr(model) and "input float32['N', 784]" in repr(model)


# --- weights


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_weights_are_read_as_copies_and_set(kind: str, tmp_path: Path) -> None:
    x, _ = batch((2, 3, 12, 12), 5)
    model, name = nbcnn.Model(small_resnet(width=96)), "layer1.conv1.weight"
    model.save(tmp_path / "m.onnx")
    if kind == "file":
        model = nbcnn.load(tmp_path / "m.onnx")
        with pytest.raises(ValueError, match="read-only"):
            model.graph.initializers[name][...] = 0
    before = model(x)
    weight = model.parameters[name]
    weight.value[...] = 0
    np.testing.assert_array_equal(model(x), before)
    weight.value = weight.value * 0.5
    model.save(tmp_path / "changed.onnx")
    (saved,) = (t for t in onnx.load(tmp_path / "changed.onnx").graph.initializer if t.name == name)
    np.testing.assert_array_equal(numpy_helper.to_array(saved), model.graph.initializers[name] * np.float32(0.5))
    assert np.abs(model(x) - before).max() > 1e-4
    assert_close(model(x), onnxruntime_run(tmp_path / "changed.onnx", {"input": x})[0])
    with pytest.raises(InputError, match=r"weight 'layer1\.conv1\.weight' has shape \[96, 96, 3, 3\], not \[96\]"):
        weight.value = np.zeros(96)
