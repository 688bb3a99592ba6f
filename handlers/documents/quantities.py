"""Physical quantities: amounts with a unit of mass, length, volume, pressure, temperature, data.

Each is read as a number in the base unit of its dimension, so that 4.2 kg and 4,200 g are the same
and 3 bar and 300 kPa too. `Value.unit` holds the dimension (`quantity/mass`) and the unit as
written; two roundings in two units never differ by more than `CONVERTED_SHARE`.

Bare `m` is left to durations (minutes), and degrees without a scale to plain numbers.
"""

import re
from collections.abc import Iterator
from decimal import Decimal

from handlers.documents.measures import AMOUNT, SIGN, Value, decimal_of, qualifier_of, shown

DIMENSION = "quantity/"
CONVERTED_SHARE = Decimal("0.02")

_UNITS = {
    "mass": (
        "g: g gram grams=1; mg milligram milligrams=0.001; kg kilo kilos kilogram kilograms=1000; "
        "t tonne tonnes=1000000; lb lbs pound pounds=453.59; oz ounce ounces=28.35"
    ),
    "length": (
        "m: metre metres meter meters=1; mm millimetre millimetres millimeter millimeters=0.001; "
        "cm centimetre centimetres centimeter centimeters=0.01; "
        "km kilometre kilometres kilometer kilometers=1000; mile miles=1609.34; ft foot feet=0.3048"
    ),
    "area": "m²: m² m2 sqm=1; km² km2=1000000; ha hectare hectares=10000",
    "volume": (
        "l: l L litre litres liter liters=1; ml mL millilitre millilitres milliliter "
        "milliliters=0.001; m³ m3=1000; gallon gallons=3.785"
    ),
    "pressure": "bar: bar bars=1; mbar hPa=0.001; kPa=0.01; MPa=10; psi=0.06895; Pa=0.00001",
    "speed": "km/h: km/h kph kmh=1; m/s=3.6; mph=1.60934; knots knot kn kt=1.852",
    "data": (
        "MB: MB megabyte megabytes=1; kB KB kilobyte kilobytes=0.001; GB gigabyte gigabytes=1000; "
        "TB terabyte terabytes=1000000; PB=1000000000; MiB=1.048576; GiB=1073.741824"
    ),
    "bandwidth": "Mbit/s: Mbit/s Mbps=1; kbit/s kbps=0.001; Gbit/s Gbps=1000",
    "power": "kW: kW kilowatt kilowatts=1; W watt watts=0.001; MW megawatt megawatts=1000; GW=1e6",
    "energy": "kWh: kWh=1; Wh=0.001; MWh=1000",
    "voltage": "V: V volt volts=1; mV=0.001; kV=1000",
    "current": "A: amp amps ampere amperes=1; mA=0.001; kA=1000",
    "frequency": "Hz: Hz hertz=1; kHz=1000; MHz=1000000; GHz=1000000000",
    "delay": "ms: ms millisecond milliseconds=1; µs microsecond microseconds=0.001",
    "concentration": "mg/l: mg/l mg/L=1; µg/l µg/L=0.001; g/l g/L=1000; ppm=1",
    "temperature": "°C: °C ℃=1; °F ℉=0",
}


def _factors() -> dict[str, tuple[str, str, Decimal]]:
    """Each unit with its dimension, the base unit, and its size in base units."""
    found: dict[str, tuple[str, str, Decimal]] = {}
    for dimension, written in _UNITS.items():
        base, _, groups = written.partition(": ")
        for group in groups.split("; "):
            names, _, factor = group.partition("=")
            found |= dict.fromkeys(names.split(), (dimension, base, Decimal(factor)))
    return found


_FACTORS = _factors()
_UNIT = "|".join(re.escape(unit) for unit in sorted(_FACTORS, key=len, reverse=True))
_QUANTITY = re.compile(
    rf"{SIGN}(?<![\w.,/])(?<!\w-)(?P<amount>{AMOUNT})(?P<scale>[ ](?:thousand|million|billion))?"
    rf"(?:[ \u00a0-]?(?P<unit>(?:{_UNIT})(?![\w/²³]))"
    r"|[ ]?(?:°|degrees?)?[ ]?(?P<degrees>(?i:celsius|centigrade|fahrenheit))\b"
    r"|[ ]?°[ ](?P<letter>[CF])\b)"
)


def read(text: str) -> Iterator[Value]:
    """The physical quantities of a text, in base units."""
    for m in _QUANTITY.finditer(text):
        unit = m["unit"] or f"°{(m['letter'] or m['degrees'])[0].upper()}"
        dimension, base, factor = _FACTORS[unit]
        written = decimal_of(m["amount"], (m["scale"] or "").strip() or None)
        written *= -1 if m["sign"] else 1
        amount = written * factor if factor else (written - 32) * 5 / 9
        yield Value(
            "number",
            m[0],
            f"{shown(round(amount, 3))} {base}",
            m.start(),
            amount,
            (DIMENSION + dimension, unit),
            qualifier_of(text, m.start()),
        )
