"""Names of people: column names that promise them in nine languages, and values that look like them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_FEWEST = 5
_FEWEST_SINGLE = 10
_MOST_SHAPED = 0.6
_SOME_GIVEN = 0.2
_MOST_GIVEN = 0.7

# of English, German, French, Spanish, Italian, Portuguese, Dutch, Polish and Czech, folded to a to z
_NAMES = re.compile(
    r"(?:first|last|middle|full|given|family|maiden|sur|customer|client|patient|contact|employee"
    r"|passenger|guest|member|holder|cardholder|student|tenant|applicant|person)names?"
    r"|surname|forename"
    r"|(?:vor|nach|familien|zu|geburts|ruf|kunden|patienten|mitarbeiter|ansprechpartner)namen?"
    r"|prenoms?|nom(?:de)?(?:famille|naissance|complet|client|patient|usage)|patronyme"
    r"|nombres|nombre(?:de)?(?:l)?(?:completo|cliente|paciente|pila|titular)|apellidos?"
    r"|(?:primer|segundo)apellido|cognome|nome(?:e)?cognome|cognomenome"
    r"|nome(?:do|da|del)?(?:completo|cliente|paciente|paziente|titular)|sobrenome|apelido"
    r"|voornaa?m(?:en)?|achternaam|roepnaam|geboortenaam|tussenvoegsel|klantnaam"
    r"|imie|imiona|nazwisko(?:rodowe)?|imieinazwisko|imienazwisko"
    r"|krestnijmeno|prijmeni|rodneprijmeni|jmenoa?prijmeni|jmenoklienta"
)
_OTHERS = re.compile(
    r"emails?|e?mailadd?ress?e?|courriel|adressee?mail|correo(?:electronico)?|telefon(?:o|e|u)?"
    r"|telefonnummer|telefoon(?:nummer)?|numertelefonu|handy(?:nummer|nr)?|mobilnummer|cellulare"
    r"|celular|telemovel|geburts(?:datum|tag)|date(?:de)?naissance|fecha(?:de)?nacimiento"
    r"|data(?:di)?nascita|data(?:de)?nascimento|geboortedatum|dataurodzenia|datumnarozeni"
    r"|adress[ea]|adres[a]?|anschrift|strasse|strassehausnummer|direccion|indirizzo|endereco|morada"
    r"|ulica|ulice|straat|calle|rue|codicefiscale|cpf|nif|steuer(?:nummer|id)|ausweisnummer"
    r"|reisepassnummer|sozialversicherungsnummer|kreditkartennummer|burgerservicenummer"
)
# names that may be of things too: the values have to look like people's
_EITHER = re.compile(r"names?|nom|nombre|nome|naam|jmeno|nev|person|contact|kunde|client|cliente")
_WORD = r"[^\W\d_a-zà-öø-ÿ][^\W\d_'’-]*(?:['’-][^\W\d_]+)*"
_TITLE = r"(?:(?:Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau|M|Mme|Sr|Sra|Sig|Dhr|Mevr|Pan|Pani)\.? )?"
_BETWEEN = r"(?:(?:[^\W\d_]\.?|de|del|della|di|da|do|dos|das|van|von|der|den|ter|la|le|el|y) ){0,3}"
_FIRST_LAST = re.compile(rf"{_TITLE}({_WORD}) (?:{_BETWEEN}{_WORD} ?){{1,3}}")
_LAST_FIRST = re.compile(rf"{_BETWEEN}{_WORD}(?: {_WORD})?, ?{_TITLE}({_WORD})\b.*")

# common given names whose bearers are not mostly towns, months or goods
_GIVEN_WORDS = (
    # English
    "james john robert michael william david richard joseph thomas charles christopher daniel "
    "matthew anthony mark donald steven paul andrew joshua kenneth kevin brian george timothy "
    "ronald edward jason jeffrey ryan jacob gary nicholas eric jonathan stephen larry justin "
    "scott brandon benjamin samuel gregory alexander patrick frank raymond jack dennis jerry "
    "tyler aaron jose adam nathan henry douglas zachary peter kyle ethan walter noah jeremy "
    "christian keith roger terry harry sean bob bill tom jim joe sam ben dan oliver liam harvey "
    "simon graham mary patricia jennifer linda elizabeth barbara susan jessica sarah karen lisa "
    "nancy betty sandra margaret ashley kimberly emily donna michelle carol amanda melissa "
    "deborah stephanie rebecca sharon laura cynthia dorothy amy kathleen angela shirley emma "
    "brenda pamela nicole samantha katherine christine helen debra rachel catherine maria anna "
    "ann anne janet ruth heather diane julie joyce evelyn joan christina kelly lauren martha "
    "judith cheryl megan andrea olivia alice jane julia grace sophie chloe lucy hannah ellen "
    "kate claire fiona hans peter klaus jurgen wolfgang dieter uwe stefan andreas michael "
    "thomas bernd heinz gunter werner horst helmut manfred gerhard karl carl josef franz "
    "friedrich heinrich otto fritz ernst kurt rolf jens kai lars sven torsten thorsten ralf "
    "matthias markus martin tobias florian sebastian lukas felix jonas leon finn emil anton "
    "dora ursula monika petra sabine renate helga karin brigitte ingrid gisela christa angelika "
    "birgit heike susanne claudia katrin kathrin silke tanja anja julia lena lea mia greta "
    "frieda johanna hannelore jean pierre michel philippe alain bernard jacques daniel nicolas "
    "christophe laurent francois olivier frederic thierry guillaume julien antoine hugo louis "
    "gabriel mathieu thibault marie nathalie isabelle sylvie catherine francoise valerie "
    "sandrine celine aurelie camille manon juliette chantal monique jacqueline helene elodie "
    "lucie margaux antonio jose manuel francisco juan javier carlos miguel alejandro pablo "
    "pedro luis diego sergio jorge alberto alvaro rafael fernando ramon enrique carmen ana "
    "isabel dolores pilar teresa lucia elena raquel marta cristina beatriz rosa mercedes "
    "giuseppe giovanni mario luigi francesco angelo vincenzo pietro salvatore andrea marco "
    "matteo lorenzo alessandro davide luca stefano paolo giulia francesca chiara sara paola "
    "giovanna silvia valentina federica alessia joao paulo tiago rui nuno duarte goncalo "
    "rodrigo ricardo bruno ines mariana joana catarina matilde jan johannes cornelis hendrik "
    "willem pieter kees henk sander bram daan lotte sanne femke anouk marijke johan piotr "
    "krzysztof andrzej tomasz pawel jakub michal marcin lukasz grzegorz mateusz wojciech adam "
    "kamil stanislaw katarzyna malgorzata agnieszka barbara ewa krystyna magdalena joanna zofia "
    "aleksandra jiri petr pavel josef jaroslav martin tomas miroslav zdenek vaclav karel milan "
    "ondrej vojtech jana eva hana lenka katerina alena vera jitka tereza veronika marek "
    "mohammed muhammad ahmed ali omar hassan fatima aisha ivan dmitri sergei olga natalia "
    "svetlana irina tatiana mehmet mustafa ayse emine wei priya rahul amit sanjay anita erik "
    "nils bjorn ingrid astrid sofia freja mikael janos istvan zoltan katalin "
)
_GIVEN = frozenset(_GIVEN_WORDS.split())
_WRITTEN = str.maketrans({"ß": "ss", "ł": "l", "Ł": "l", "ø": "o", "Ø": "o", "đ": "d"})


def folded(text: str) -> str:
    """Return text in small letters a to z alone, without accents.

    Examples
    --------
    >>> folded("Prénom_2"), folded("Straße"), folded("Příjmení")
    ('prenom', 'strasse', 'prijmeni')
    """
    plain = unicodedata.normalize("NFKD", text.translate(_WRITTEN)).lower()
    return re.sub(r"[^a-z]", "", plain)


def names_people(column: str) -> bool:
    """Tell whether a column name promises names, addresses or numbers of people, in any of nine languages.

    Examples
    --------
    >>> [names_people(each) for each in ("Nachname", "prénom", "apellidos", "příjmení", "price")]
    [True, True, True, True, False]
    """
    plain = folded(column)
    return bool(_NAMES.fullmatch(plain) or _OTHERS.fullmatch(plain))


def people_among(column: str, texts: Sequence[str]) -> str | None:
    """Return a sign if the values look like names of people: `First Last`, `Last, First`, or one of both.

    Most values have to be written like names, and one in five has to begin with a common given name;
    of single words seven in ten. Where the column is called `name` or the like, one in ten will do.

    Parameters
    ----------
    column
        The name of the column.
    texts
        Distinct values; of fewer than five nothing is said.
    """
    if len(texts) < _FEWEST:
        return None
    n_shaped, n_given, n_single = 0, 0, 0
    for text in texts:
        match = _FIRST_LAST.fullmatch(text) or _LAST_FIRST.fullmatch(text)
        n_shaped += match is not None
        n_given += match is not None and folded(match[1]) in _GIVEN
        n_single += text.isalpha() and text[0].isupper() and text.lower() in _GIVEN
    least = _SOME_GIVEN / 2 if _EITHER.fullmatch(folded(column)) else _SOME_GIVEN
    if n_shaped >= _MOST_SHAPED * len(texts) and n_given >= least * len(texts):
        return f"names of people in {n_shaped / len(texts):.0%} of the values"
    if len(texts) >= _FEWEST_SINGLE and n_single >= _MOST_GIVEN * len(texts):
        return f"given names in {n_single / len(texts):.0%} of the values"
    return None
