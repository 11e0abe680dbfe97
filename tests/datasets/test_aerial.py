"""Vehicles, trees and roads seen from above: their sizes and where they are painted."""

import numpy as np
import pytest

from flsl_bench.datasets.aerial import BAY, CAR, COLOURS, LENGTHS, Road, paint_car_park, paint_road, tree, vehicle

VEHICLES = [(category, colour) for category in COLOURS for colour in range(len(COLOURS[category]))]


@pytest.mark.parametrize(("category", "colour"), VEHICLES)
def test_a_vehicle_is_long_and_mostly_of_its_colour(category, colour):
    found = vehicle(category, colour)
    height, width, channels = found.pixels.shape
    assert (found.category, channels) == (category, 4)
    assert width == round(CAR * LENGTHS[category]) > 2 * height * 0.9
    assert 0.9 < found.area / (width * height) <= 1
    body = np.all(np.abs(found.pixels[..., :3] * 255 - COLOURS[category][colour]) < 40, axis=2)
    assert body.mean() > 0.35


def test_colours_premultiplied_never_exceed_the_coverage():
    for found in (*(vehicle(*which) for which in VEHICLES), *(tree(number) for number in range(6))):
        assert found.pixels.min() >= 0
        assert (found.pixels[..., :3] <= found.pixels[..., 3:] + 1e-6).all()


def test_trees_differ_and_are_green():
    shapes = [tree(number).pixels for number in range(3)]
    assert not np.array_equal(shapes[0], shapes[1])
    for pixels in shapes:
        red, green, blue = (pixels[..., channel].sum() for channel in range(3))
        assert green > red > blue
        assert 0.4 < pixels[..., 3].mean() < 0.9


class TestRoad:
    @pytest.mark.parametrize("angle", [0.0, 37.0, 90.0, 200.0])
    def test_points_are_where_they_say(self, angle):
        road = Road(100, 80, angle=angle, lanes=4, car=20)
        for along, across in ((0, 0), (30, 0), (-12, 7), (5, -20)):
            x, y = road.point(along, across)
            assert np.hypot(x - 100, y - 80) == pytest.approx(np.hypot(along, across))
            assert road.across(x, y) == pytest.approx(across)

    def test_angles_turn_counter_clockwise(self):
        x, y = Road(0, 0, angle=90, lanes=2, car=20).point(10, 0)
        assert (x, y) == pytest.approx((0, -10))  # y points down

    def test_traffic_keeps_to_the_right(self):
        road = Road(100, 80, angle=0, lanes=4, car=20)
        lanes = [road.lane(number) for number in range(4)]
        assert [heading for _, heading in lanes] == [180, 180, 0, 0]
        assert [across for across, _ in lanes] == pytest.approx([-22.2, -7.4, 7.4, 22.2])
        assert max(across for across, _ in lanes) < road.half_width

    def test_asphalt_covers_the_road_and_nothing_else(self):
        canvas = np.full((160, 200, 3), (0, 200, 0), np.uint8)
        road = Road(100, 80, angle=20, lanes=4, car=16)
        paint_road(canvas, road, np.random.default_rng(0))
        columns, rows = np.meshgrid(np.arange(200), np.arange(160))
        away = np.abs(road.across(columns, rows))
        assert (canvas[away > road.half_width + 2] == (0, 200, 0)).all()
        assert (canvas[away < road.half_width - 2][:, 0] > 30).all()


def test_a_car_park_stays_in_its_place():
    canvas = np.zeros((60, 120, 3), np.uint8)
    paint_car_park(canvas, (20, 10), (round(5 * BAY * 16), 40), car=16)
    rows, columns = np.nonzero(canvas.any(axis=2))
    found = (columns.min(), rows.min(), columns.max(), rows.max())
    np.testing.assert_allclose(found, (20, 10, 69, 49), atol=2)  # the softened ends of its lines
    assert set(np.unique(canvas[12:48, 22:68])) > {92}
