"""First on the path of a killed command's processes: sets its point where it has one."""

from tests.kills import points

points.arm()
