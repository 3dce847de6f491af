import pytest
import torch

from tireid.losses.precision import full_precision


def test_matrix_products_leave_autocast():
    half = torch.randn(3, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert (half.float() @ half.float()).dtype == torch.bfloat16  # what casting alone gives
        with full_precision(half, half) as (left, right):
            assert (left @ right).dtype == torch.float32
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((torch.float16, torch.bfloat16), torch.float32),
        ((torch.bfloat16, torch.float32), torch.float32),
        ((torch.float16, torch.float64), torch.float64),
    ],
)
def test_all_tensors_get_the_widest_type(types, expected):
    with full_precision(*(torch.ones(2, dtype=dtype) for dtype in types)) as tensors:
        assert [tensor.dtype for tensor in tensors] == [expected] * len(types)


def test_gradients_return_in_the_type_of_the_input():
    half = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    with full_precision(half) as (wide,):
        (wide * torch.tensor([2.0, 3.0])).sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16
    assert half.grad.tolist() == [2.0, 3.0]


def test_nothing_to_promote():
    with pytest.raises(ValueError, match="at least one tensor"), full_precision():
        pass
