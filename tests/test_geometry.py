import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from imgsynth import geometry as g

number = st.floats(-10, 10, allow_subnormal=False)
vector = st.tuples(number, number, number).map(np.array)
angle = st.floats(-720, 720)


@st.composite
def quaternions(draw):
    q = np.array(draw(st.tuples(number, number, number, number)))
    assume(np.linalg.norm(q) > 1e-3)
    return g.quat_canonical(q)


def scipy_matrix(q):
    return Rotation.from_quat(np.roll(q, -1)).as_matrix()


@given(quaternions(), quaternions())
def test_products_are_rotations_in_turn(a, b):
    m = g.quat_to_matrix(g.quat_multiply(a, b))
    assert np.allclose(m, g.quat_to_matrix(a) @ g.quat_to_matrix(b))
    assert np.allclose(m, scipy_matrix(a) @ scipy_matrix(b))
    assert np.allclose(m @ m.T, np.eye(3)) and np.linalg.det(m) == pytest.approx(1)
    assert np.allclose(g.quat_multiply(a, g.quat_conjugate(a)), [1, 0, 0, 0])


@given(quaternions())
def test_matrix_round_trip(q):
    back = g.matrix_to_quat(g.quat_to_matrix(q))
    assert back[0] >= 0
    assert abs(np.dot(back, q)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("half_turn", [*np.eye(3).tolist(), [0.6, 0.8, 0], [0, -0.6, 0.8]])
def test_matrix_round_trip_of_half_turns(half_turn):
    q = np.array([0.0, *half_turn])
    assert abs(g.matrix_to_quat(g.quat_to_matrix(q)) @ q) == pytest.approx(1)


@given(vector, angle, vector)
def test_axis_angle_is_rodrigues(axis, degrees, v):
    assume(np.linalg.norm(axis) > 1e-3)
    k, t = axis / np.linalg.norm(axis), np.radians(degrees)
    expected = v * np.cos(t) + np.cross(k, v) * np.sin(t) + k * (k @ v) * (1 - np.cos(t))
    assert np.allclose(g.rotate(g.quat_from_axis_angle(axis, degrees), v), expected)


@given(st.tuples(angle, angle, angle))
def test_euler_turns_about_fixed_x_then_y_then_z(angles):
    expected = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    assert np.allclose(g.quat_to_matrix(g.quat_from_euler(angles)), expected)


@given(vector, vector)
def test_between_takes_one_to_the_other_the_shortest_way(a, b):
    assume(min(np.linalg.norm(a), np.linalg.norm(b)) > 1e-3)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    q = g.quat_between(a, b)
    assert np.allclose(g.rotate(q, a), b, atol=1e-6)
    assert np.cos(2 * np.arccos(min(1, q[0]))) == pytest.approx(a @ b, abs=1e-6)


@pytest.mark.parametrize("a", [*np.eye(3).tolist(), [0.6, 0, 0.8]])
def test_between_opposites_is_a_half_turn(a):
    q = g.quat_between(a, -np.array(a))
    assert np.allclose(g.rotate(q, a), -np.array(a)) and np.linalg.norm(q) == pytest.approx(1)


@given(quaternions(), vector, vector)
def test_rigid_inverse_and_transform(q, t, p):
    m = g.compose(q, t)
    assert np.allclose(g.rigid_inverse(m), np.linalg.inv(m))
    points = np.stack([p, 2 * p])
    assert np.allclose(g.transform(m, points), [g.rotate(q, p) + t, g.rotate(q, 2 * p) + t])
    assert np.allclose(g.transform(g.rigid_inverse(m), g.transform(m, points)), points)
    assert np.allclose(g.compose(g.quat_to_matrix(q), t), m)


@given(vector, vector, vector)
def test_look_at(eye, target, up):
    assume(np.linalg.norm(target - eye) > 1e-2 and np.linalg.norm(up) > 1e-2)
    m = g.look_at(eye, target, up)
    r = m[:3, :3]
    assert np.allclose(r @ r.T, np.eye(3)) and np.linalg.det(r) == pytest.approx(1)
    assert np.allclose(m[:3, 3], eye)
    seen = g.transform(g.rigid_inverse(m), target[None])[0]
    assert np.allclose(seen, [0, 0, np.linalg.norm(target - eye)], atol=1e-6)
    forward = (target - eye) / np.linalg.norm(target - eye)
    if np.linalg.norm(np.cross(forward, up / np.linalg.norm(up))) > 1e-6:
        assert r[:, 1] @ up < 0  # up is -y of the image
        assert r[:, 0] @ up == pytest.approx(0, abs=1e-6)


def test_look_straight_down_has_world_y_at_the_top():
    m = g.look_at([0, 0, 5], [0, 0, 0])
    assert np.allclose(m[:3, :3], np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1]]).T)


def test_look_at_is_vectorized_and_refuses_the_target_itself():
    eyes = np.random.default_rng(0).normal(size=(7, 3))
    batch = g.look_at(eyes, [0, 0, 0])
    assert batch.shape == (7, 4, 4)
    assert np.allclose(batch[3], g.look_at(eyes[3], [0, 0, 0]))
    with pytest.raises(ValueError, match="target"):
        g.look_at([1, 1, 1], [1, 1, 1])


@given(st.floats(5, 170), st.floats(0.1, 100))
def test_projection_of_the_field_of_view(fov, z):
    k = g.intrinsics(fov, (48, 64))
    half = z * np.tan(np.radians(fov) / 2)
    pixels = g.project(k, np.array([[0, 0, z], [0, half, z], [0, -half, z], [half, 0, z]]))
    assert np.allclose(pixels, [[32, 24], [32, 48], [32, 0], [56, 24]])
    assert np.isnan(g.project(k, np.array([[0, 0, -z]]))).all()


def test_projection_is_vectorized():
    k = g.intrinsics([30.0, 60.0], (10, 10))
    points = np.array([[[0.1, 0.2, 1.0]], [[0.1, 0.2, 2.0]]])
    both = g.project(k, points)
    assert both.shape == (2, 1, 2)
    assert np.allclose(both[1], g.project(k[1], points[1]))


def test_boxes():
    a, b, c = [0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6]
    assert g.box_iou([a, a, a], [a, b, c]).tolist() == [1, 1 / 7, 0]
    assert g.box_union(a, c).tolist() == [0, 0, 6, 6]
    assert g.box_clip([-1, 2, 9, 3], (4, 5)).tolist() == [0, 2, 5, 3]
    assert g.box_area([3, 3, 1, 5]) == 0 and g.box_iou([1, 1, 1, 1], [1, 1, 1, 1]) == 0


box = st.tuples(number, number, st.floats(0.1, 5), st.floats(0.1, 5)).map(
    lambda t: np.array([t[0], t[1], t[0] + t[2], t[1] + t[3]])
)


@given(box, box)
def test_iou_is_symmetric_bounded_and_one_only_for_equals(a, b):
    iou = g.box_iou(a, b)
    assert 0 <= iou <= 1 + 1e-12 and iou == pytest.approx(g.box_iou(b, a))
    assert g.box_iou(a, a) == pytest.approx(1)
    assert g.box_area(g.box_union(a, b)) >= max(g.box_area(a), g.box_area(b)) - 1e-12


def test_a_zero_vector_stays_zero():
    assert g.normalize([0, 0, 0]).tolist() == [0, 0, 0]
