from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from loopwright.explore.person import names_people, people_among
from loopwright.explore.personal import personal_data

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"
HARMLESS = ["kc_house", "adult", "telco_churn", "hotel_rates", "berka_district"]
HARMLESS += [f"nycflights13_{name}" for name in ("airlines", "airports", "planes")]

PEOPLE = {
    "English": ["Anna Smith", "Bob Jones", "Carl O'Hara", "Mary-Jane W. Bush", "JOHN MILLER"],
    "with titles": [
        "Braund, Mr. Owen Harris",
        "Allen, Mr. William Henry",
        "Moran, Mr. James",
        "Heikkinen, Miss. Laina",
        "Cumings, Mrs. John Bradley",
    ],
    "German": ["Jürgen Groß", "Karin Müller-Lüdenscheidt", "Hans von der Au", "Uwe Ötz", "Eva Lau"],
    "Romance": [
        "José García López",
        "Ana de la Cruz",
        "Chloé Lefèvre",
        "Giulia Di Rosa",
        "Rui Reis",
    ],
    "Slavic": ["Łukasz Kowalski", "Jiří Dvořák", "Ewa Wójcik", "Jana Nováková", "Žofia Šťastná"],
}
THINGS = {
    "towns": ["San Jose", "Los Angeles", "New York", "Santa Maria", "El Paso", "Saint Louis"],
    "firms": ["Levi Strauss", "General Motors", "Johnson Controls", "Wells Fargo", "Ford Motor"],
    "sentences": ["Anna likes it", "Bob was here", "Mary had a lamb", "Peter ran", "John said so"],
    "few": ["Anna Smith", "Bob Jones"],
    "words": ["Gravel", "Paved", "Grass", "Mud", "Sand"],
}


@pytest.mark.parametrize("texts", PEOPLE.values(), ids=list(PEOPLE))
def test_names_of_people_are_told_by_how_they_are_written(texts: list[str]):
    assert people_among("x", texts) == "names of people in 100% of the values"


@pytest.mark.parametrize("texts", THINGS.values(), ids=list(THINGS))
def test_names_of_things_are_left_in_peace(texts: list[str]):
    assert people_among("x", texts) is None


def test_a_column_called_name_needs_fewer_common_names():
    texts = ["Anna Smith", *(f"{first} Okonkwo" for first in ("Ada", "Obi", "Ify", "Uche", "Nkem"))]

    assert people_among("bezeichnung", texts) is None
    assert people_among("name", texts) is not None


@pytest.mark.parametrize(
    "column",
    [
        "Nachname",
        "vorname",
        "Prénom",
        "nom_de_famille",
        "apellidos",
        "Nombre completo",
        "cognome",
        "dataDiNascita",
        "sobrenome",
        "achternaam",
        "geboortedatum",
        "imię",
        "nazwisko",
        "Příjmení",
        "datum_narození",
        "first_name",
        "customerName",
        "Straße",
        "E-Mail-Adresse",
        "courriel",
    ],
)
def test_column_names_of_nine_languages_promise_people(column: str):
    assert names_people(column)


@pytest.mark.parametrize(
    "column", ["price", "name", "product_name", "nir", "portable", "nazwa", "via", "streetcar"]
)
def test_column_names_of_things_promise_nobody(column: str):
    assert not names_people(column)


@pytest.mark.skipif(not DATASETS.exists(), reason="the shared data sets are not here")
@pytest.mark.parametrize("name", HARMLESS)
def test_no_column_of_a_harmless_table_is_taken_for_personal(name: str):
    table = pl.read_parquet(DATASETS / f"{name}.parquet")

    found = {column.name: what for column in table if (what := personal_data(column))}

    assert found == {}
