"""Head pose from 68 landmarks: yaw > 0 turns the face to the right edge of the picture, pitch > 0 looks up, roll > 0
tilts it clockwise; degrees.

Weak perspective: an affine map from a mean head to the landmarks by weighted least squares, and the rotation nearest
to it. The mean head was fitted by least squares to dlib's landmarks on the rendered faces S000, S002, ... of
RenderedFACS, given their true poses (`tests/benchmarks/head_pose.py --fit`), so that it contains dlib's own habits; the
weights are one over the residuals squared. On the other half of the subjects the mean error is 1.2, 1.9, 0.6 degrees
(yaw, pitch, roll), where a constant guess errs by 10.2, 4.3, 3.7; with nose, eyes and mouth alone pitch errs by 3.6.
"""

import math

import numpy as np

VERSION = 1

# x to the right of the picture, y up, z to the camera, and weight. Thousandths of the face's width (points 0 to 16),
# from the middle between the root of the nose and the upper lip; weights in hundredths.
_HEAD = """
    -502 156 -593 16  -494 31 -556 16  -476 -92 -527 11  -449 -215 -493 9  -403 -329 -426 10  -330 -428 -330 13
    -236 -512 -230 19  -125 -575 -135 29  0 -595 -101 32  126 -575 -136 30  237 -511 -232 20  331 -427 -336 13
    403 -328 -427 11  448 -214 -489 11  474 -93 -525 13  490 30 -560 19  498 153 -601 17
    -405 289 -271 27  -346 356 -210 34  -257 388 -150 36  -161 388 -95 42  -72 358 -57 47
    73 359 -55 45  163 388 -98 42  259 387 -154 36  346 353 -215 34  404 285 -284 27
    0 223 -38 86  0 144 15 98  0 66 73 61  1 -13 135 34
    -96 -96 -5 64  -49 -109 27 73  0 -121 48 68  48 -109 31 74  95 -96 4 63
    -311 181 -195 55  -256 215 -162 44  -187 217 -153 52  -129 177 -161 96  -190 160 -152 84  -258 158 -161 65
    128 176 -159 100  186 215 -153 54  254 214 -166 43  309 180 -202 54  257 158 -169 71  190 159 -153 88
    -179 -288 -112 19  -113 -238 -19 33  -47 -211 34 44  0 -223 38 47  48 -211 39 41  115 -238 -6 32
    180 -287 -100 21  116 -336 -21 27  52 -358 23 22  0 -363 22 22  -51 -359 19 22  -115 -336 -34 26
    -149 -287 -100 23  -47 -269 22 51  0 -273 26 57  48 -269 27 47  150 -286 -85 25
    49 -285 21 33  0 -291 18 36  -48 -285 16 33
"""
_TABLE = np.array(_HEAD.split(), np.float64).reshape(68, 4)
HEAD_68x3 = _TABLE[:, :3] / 1000
WEIGHT_68 = _TABLE[:, 3] / _TABLE[:, 3].sum()
FRONTAL_68x2 = HEAD_68x3[:, :2] * (1, -1)  # as a picture shows it, y down

_CENTRED = HEAD_68x3 - WEIGHT_68 @ HEAD_68x3
_WEIGHED = (_CENTRED * WEIGHT_68[:, None]).T  # its columns sum to zero: a shift of the landmarks changes nothing
_TO_AFFINE_3x68 = np.linalg.solve(_WEIGHED @ _CENTRED, _WEIGHED)


def head_pose(points_68x2: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees. Affected by neither size nor place of the face."""
    (a, b, c), (d, e, f) = (_TO_AFFINE_3x68 @ points_68x2).T.tolist()
    d, e, f = -d, -e, -f  # the picture's y points down
    # the two rows nearest to (a b c), (d e f) that are orthonormal: times the inverse root of their 2x2 Gram matrix
    aa, ad, dd = a * a + b * b + c * c, a * d + b * e + c * f, d * d + e * e + f * f
    root_det = math.sqrt(max(aa * dd - ad * ad, 1e-12 * aa * dd))
    p, q, r = dd + root_det, -ad, aa + root_det  # the inverse root, but for a factor that cancels
    x = np.array([p * a + q * d, p * b + q * e, p * c + q * f])
    y = np.array([q * a + r * d, q * b + r * e, q * c + r * f])
    x, y = x / math.sqrt(x @ x), y / math.sqrt(y @ y)
    return angles(np.array([x, y, (x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0])]))


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The head's 3x3 rotation in coordinates x right, y up, z to the camera: first pitch, then yaw, then roll."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in np.radians([yaw, -pitch, -roll]))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def angles(rotation_3x3: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a rotation, the inverse of `rotation` for |yaw| < 90."""
    (right_x, _, _), (right_y, _, _), (right_z, up_z, front_z) = rotation_3x3.tolist()
    yaw = math.asin(min(max(-right_z, -1.0), 1.0))
    return math.degrees(yaw), -math.degrees(math.atan2(up_z, front_z)), -math.degrees(math.atan2(right_y, right_x))
