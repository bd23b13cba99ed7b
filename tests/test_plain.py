"""What people and debuggers are shown of any value: text as it is, and of images and files their kind and size."""

from __future__ import annotations

import base64
import random
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.judges.students import digest
from evoprompt.plain import MAX_TEXT, plain, text

RAW = random.Random(0).randbytes(9000)
ENCODED = base64.b64encode(RAW).decode()
PNG = f"data:image/png;base64,{ENCODED}"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (dspy.Image(PNG), '{"url": "<image, image/png, 9 kB>"}'),
        ([dspy.Image(PNG)], '[{"url": "<image, image/png, 9 kB>"}]'),
        (dspy.Audio(data=ENCODED, audio_format="wav"), '"<audio, audio/wav, 9 kB>"'),
        (f"See ![it]({PNG}).", "See ![it](<image, image/png, 9 kB>)."),
        (f"data:application/pdf;name=a.pdf;base64,{ENCODED}", "<binary data, application/pdf, 9 kB>"),
        (f"data:image/svg+xml,%3Csvg{'%20a' * 99}", "<image, image/svg+xml, 402 bytes>"),
        (f"a file: {ENCODED}", "a file: <binary data, base64, 9 kB>"),
        (base64.encodebytes(RAW).decode().strip(), "<binary data, base64, 9 kB>"),
        (base64.urlsafe_b64encode(RAW).decode(), "<binary data, base64, 9 kB>"),
        (RAW.hex(), "<binary data, hex, 9 kB>"),
        ({"file": RAW}, '{"file": "<binary data, bytes, 9 kB>"}'),
        (dspy.Example(image=dspy.Image(PNG), n=1), '{"image": {"url": "<image, image/png, 9 kB>"}, "n": 1}'),
    ],
)
def test_binary_data_is_told_by_kind_and_size(value: Any, told: str) -> None:
    assert text(value) == told


def test_an_image_inside_a_message_is_told_by_kind_and_size() -> None:
    assert "<image, image/png, 9 kB>" in text(str(dspy.Image(PNG))) and len(text(str(dspy.Image(PNG)))) < 200


@pytest.mark.parametrize(
    "value",
    [
        "x" * 5000,
        "ACGT" * 500,
        "word " * 900,
        "https://example.com/" + "a/b-C" * 90 + "?q=1",
        "SomeVeryLongCamelCaseIdentifierWithDigits12345AndMore_" * 3,
        "\n".join(["d" * 64, "e" * 64, "0" * 64]),
        "data:image/png;base64,iVBOR",
        "print(1)\n" * 300,
        b"short",
    ],
)
def test_text_stays_as_it_is(value: Any) -> None:
    assert text(value) in (value, f'"{value!r}"')


@given(st.text(max_size=2 * MAX_TEXT))
def test_written_text_stays_as_it_is(value: str) -> None:
    assert text(" ".join(value.split())[:100]) == " ".join(value.split())[:100].encode("utf-8", "replace").decode()


def test_two_images_of_one_size_stay_two() -> None:
    other = base64.b64encode(RAW[::-1]).decode()
    assert digest(plain(dspy.Image(PNG))) != digest(plain(dspy.Image(f"data:image/png;base64,{other}")))
