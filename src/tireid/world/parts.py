"""Numbers of the parts of a person in the record of which part covers which pixel."""

BACKGROUND = 0
SKIN = 1
HAIR = 2
TOP = 3
PRINT = 4
OUTER = 5
LOWER = 6
SHOES = 7
BAG = 8
STRAP = 9
HAT = 10
GLASSES = 11
HELD = 12
SLEEVE = 13
OUTER_SLEEVE = 14
BELT = 15
SCARF = 16
TIE = 17
SOCKS = 18
WATCH = 19
BUTTONS = 20
COLLAR = 21
OCCLUDER = 255
