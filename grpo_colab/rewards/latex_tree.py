r"""Read the structure of a formula from its LaTeX: lists, sets, intervals, equations, and the plain parts in them.

math-verify's own reading is kind: it reduces an equation to its right side, drops subscripts and the primes of
derivatives, and takes a word for a product of letters. So the structure is read here, as text, and math-verify is
asked about the plain parts only, one at a time.

The result is a `Node`, a JSON array that begins with its kind, for the process that compares (`latex_compare.py`):

- `leaf TEXT`: a plain part, for math-verify
- `text TEXT`: what is compared as text, such as words, `101_2` and `5 ft 3 in`
- `run TEXT`: three letters, which are a word beside words and a product beside formulas
- `list JOINER NODES`: `1, 2` or `x=1 or x=2`, in any order; the joiner is `,`, `or` or `and`
- `set NODES`, `tuple BRACKETS NODES` (also an interval), `ratio NODES`
- `equation NAME KIND MEMBERS`: the kind of the name on the left is `letter`, `word`, `other` or "", for none
- `relation OPERATORS MEMBERS`, `congruence MEMBERS`
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any, Final

from grpo_colab.rewards.latex_tidy import END, FUNCTIONS, GREEK, WRAPPED, tidy

Node = list[Any]
MAX_DEPTH: Final = 40  # of brackets: deeper ones are read by no human, and would exhaust Python's stack
Law = Callable[[str], bool]  # tells whether a text with the number 1 in it states that number

# All patterns are text, so that they are compiled at their first use and not at import.
_OPENING: Final = frozenset({"(", "[", "{", r"\{", r"\langle", r"\begin", r"\lfloor", r"\lceil"})
_CLOSING: Final = frozenset({")", "]", "}", r"\}", r"\rangle", r"\end", r"\rfloor", r"\rceil"})
_PAIRS: Final = frozenset({"()", "[]", "(]", "[)", "{}", r"\{\}", r"\langle\rangle"})
_JOINT: Final = (
    r"(?:\s*(?:[,;]|\\text\s*\{\s*[,;]?\s*(?:and|or)\s*[,;]?\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*)+"
)
_THOUSANDS: Final = r"(?<=\d),(?=\d{3}(?!\d))"
_RELATION: Final = rf"=|<|>|\\(?:le|ge|ne|in){END}"
_LETTER: Final = rf"(?:[A-Za-z]|{GREEK})"
# Names that are no plain letter: x_1, f(x), f'(x), (x,y), \vec{v}, \angle ABC.
_OTHER_NAME: Final = (
    rf"(?:[A-Za-z]|{GREEK})_(?!\{{?[dp])(?:\w|\{{[\w+-]+\}})|[fghpquvyrsFGHPQRSTVAC](?:_\{{(?:inv|p+)\}})?\s*"
    rf"\(\s*(?:{_LETTER}(?:\s*,\s*{_LETTER})*|-?\d+)\s*\)|[PE]\([^()]+\)|\(\s*{_LETTER}(?:\s*,\s*{_LETTER})+\s*\)"
    r"|\\(?:vec|overrightarrow|overline)\s*\{[A-Za-z]{1,2}\}|\|\s*[A-Z]{2}\s*\||m?\s*\\angle\s*\{?[A-Z]{1,3}\}?"
)
_SYMBOLS: Final = {
    **dict.fromkeys(("all real numbers", "all reals", "the real numbers"), r"\mathbb{R}"),
    **dict.fromkeys(("empty set", "the empty set"), r"\emptyset"),
}
_BASES: Final = ("two", "three", "four", "five", "six", "seven", "eight", "nine")  # from 2 on
_SETS: Final = rf"\\(?:mathbb|cup|cap|setminus|emptyset){END}"
# What math-verify ignores, or reads as something else: in a plain part, it makes the part a text.
_IGNORED: Final = (
    rf"\\(?:approx|sim|phantom|[lch]?dots|gcd|lcm|det|[bp]?mod){END}|(?<![A-Za-z])mod(?![A-Za-z])|\.\.\.|[0-9)}}]\s*_"
    r"|(?<![_^\d])\d+\s+\d|[?@#']|\\prime"
)
_ENDLESS: Final = r"\[\s*[+-]?\s*\\infty|\\infty\s*\]"  # an interval that contains its endless end
# A name for one of several things is a guess.
_GUESS: Final = r"(?i)\b(?:(?:one|some|any|each|either) of|either|possible|possibly|another)\b"
# Units that may stand behind a formula without `\text`.
_BARE_UNIT: Final = (
    r"(?:[cm]m|(?:square |cubic )?(?:units?|inch(?:es)?|feet|miles?|(?:centi|milli|kilo)?met(?:er|re)s?))"
    r"(?:\s*\^\s*(?:[23]|\{[23]\}))?"
)
_SHORT_WORDS: Final = frozenset(re.findall("..", "noonupisitsoinattodogowehememyusifofok"))
_NOT_WORDS: Final = frozenset(f"and or inf infinity {FUNCTIONS}".replace("|", " ").split())


def tree_of(formula: str, law: Law, for_number: bool = False, keep_letters: bool = False) -> Node:
    r"""Return the structure of a formula.

    `law` says which units and which names on the left of a `=` may stand beside a number. It alone says so where the
    gold is a number (`for_number`): `f(2) = \sqrt{4}` is then no 2. With `keep_letters`, a single letter in text, as in
    `18\text{ g}`, is a factor and no unit. Takes time quadratic in the formula's length.
    """
    words = _words(formula)
    if words is not None:
        return words
    return _Reader(law, for_number, keep_letters).node(tidy(formula))


def has_text(node: Node) -> bool:
    """Tell whether a part of a node is compared as text."""
    if node[0] in ("text", "run"):
        return True
    inner = [part for parts in node[1:] if isinstance(parts, list) for part in parts]
    return any(has_text(part) for part in inner if isinstance(part, list))


def is_time(formula: str) -> bool:
    """Tell whether a formula is a time of day, such as 10 am."""
    words = _words(formula)
    return words is not None and re.fullmatch(r"[\d:]+ [ap]m", words[1]) is not None


def is_balanced(formula: str) -> bool:
    """Tell whether all brackets of a formula match."""
    return split(tidy(formula), ",") is not None


def without_commands(formula: str) -> str:
    """Return a formula without LaTeX's commands: its words, its letters, and what stands between them."""
    return re.sub(r"\\[A-Za-z]+", " ", re.sub(r"\\(?:begin|end)\s*\{[a-z]*\*?\}", " ", formula))


def _words(formula: str) -> Node | None:
    r"""Return the node of a formula that is words, as in `\text{no solution}` or `7:30 PM`, else None."""
    text = formula.replace("$", "")
    for _ in range(3):
        text = re.sub(WRAPPED, r" \1 ", text)
    is_bare = text.strip() == formula.replace("$", "").strip()
    text = " ".join(re.sub(r"(?<!\\)\\[,;:! ]|~", " ", text).split()).strip(" .,;:。，")
    text = re.sub(r"-\s+(?=\d)", "-", text.rstrip(" .,;:!。，！").casefold())
    time = re.fullmatch(r"(\d{1,2}(?::\d\d)?)\s?([ap])\.?\s?m\.?", text)
    if time:
        return ["text", f"{time[1]} {time[2]}m"]
    remainder = re.fullmatch(r"(\d+)\s?\(?\s?(?:r|remainder)\.?\s?(\d+)\s?\)?", text)
    if remainder:
        return ["text", f"{remainder[1]} r {remainder[2]}"]
    tokens = re.findall(r"[^\W\d_]+", text)
    has_digits = any(character.isdigit() for character in text)
    if not re.fullmatch(r"[^\W_][\w\s.,:;'’()/&%-]*", text) or not any(_is_word(token, has_digits) for token in tokens):
        return None
    if re.search(r"\d[^\W\d_]|[^\W\d_]\d", text) and has_digits:  # 2abcd
        return None
    if is_bare and re.fullmatch(r"[a-z]{3}", text):
        return ["run", text]
    words = " ".join(re.findall(r"-?\d+(?:[.,:/]\d+)*|[^\W_]+|%", text))
    if words[0].isdigit():
        words = re.sub(r"(?<=[^\W\d]) and (?=\d)", " ", words)  # 2 hours and 30 minutes
    return ["leaf", _SYMBOLS[words]] if words in _SYMBOLS else ["text", words]


def _is_word(token: str, among_digits: bool) -> bool:
    """Tell whether a run of letters is a word, and no product; beside digits, it needs four letters."""
    if token in _NOT_WORDS or token in "ℝℤℚℕℂ" or "α" <= token[0] <= "ω":
        return False
    if not token.isascii() and max(token) > "\u0400":
        return True
    return len(token) >= (4 if among_digits else 3) or (token in _SHORT_WORDS and not among_digits)


def split(text: str, separator: str) -> list[tuple[str, str]] | None:
    """Split a text at the separators that are outside of all brackets.

    Each part comes with the separator before it; the first one's is "". None for brackets that do not match, or are
    nested deeper than `MAX_DEPTH`.
    """
    parts, depth, start, position, before = [], 0, 0, 0, ""
    pattern, token = re.compile(separator), re.compile(r"(?s)\\[A-Za-z]+|\\.|.")
    while position < len(text):
        cut = pattern.match(text, position) if depth == 0 else None
        if cut and cut.end() > position:
            parts.append((text[start:position].strip(), before))
            before, start, position = cut[0].strip(), cut.end(), cut.end()
            continue
        found = token.match(text, position)
        assert found is not None
        depth += (found[0] in _OPENING) - (found[0] in _CLOSING)
        if not 0 <= depth <= MAX_DEPTH:
            return None
        position = found.end()
    parts.append((text[start:].strip(), before))
    return parts if depth == 0 else None


class _Reader:
    """Reads nodes, all by the same law."""

    def __init__(self, law: Law, for_number: bool, keep_letters: bool) -> None:
        self.law, self.for_number, self.keep_letters = law, for_number, keep_letters

    def node(self, text: str, inside: bool = False) -> Node:
        """Return the node of a tidy text; `inside` says that it stands in brackets, where 1,234 are two numbers."""
        text = self._with_words(text)
        joint = _JOINT if inside else rf"(?!{_THOUSANDS}){_JOINT}"
        parts = split(text, joint)
        if parts is None or not any(part for part, _ in parts):
            return ["text", _as_text(text) if parts is None else ""]
        if len(parts) > 1:
            joined = " ".join(separator for _, separator in parts)
            joiner = "or" if "or" in joined else "and" if "and" in joined else ","
            return self._list(joiner, [self.node(part, inside) for part, _ in parts if part])
        congruence = re.fullmatch(r"(.*?)\s*\\equiv\s*(.+?)\s*\(?\\?\(?[pb]?mod\s*(.+?)\)?", text)
        if congruence:
            modulus = re.sub(r"^\{(.*)\}$", r"\1", congruence[3])
            return ["congruence", [self.node(part) for part in (congruence[1], congruence[2], modulus)]]
        related = split(text, _RELATION) or []
        if len(related) > 1:
            return self._related([part for part, _ in related], [sign for _, sign in related[1:]])
        ratio = split(text, ":") or []
        if len(ratio) > 1 and all(part for part, _ in ratio):
            return ["ratio", [self.node(part) for part, _ in ratio]]
        return self._group(text) or self._leaf(text)

    def _with_words(self, text: str) -> str:
        r"""Return statements with "or" and "and" in place of `\lor` and `\land`, and any other text as it is."""
        for sign, word in ((r"\\(?:lor|vee)", "or"), (r"\\(?:land|wedge)", "and")):
            parts = split(text, f"{sign}{END}") or []
            if len(parts) > 1 and all(len(split(part, _RELATION) or []) > 1 for part, _ in parts):
                return f" {word} ".join(part for part, _ in parts)
        return text

    def _list(self, joiner: str, nodes: list[Node]) -> Node:
        """Return the node of several nodes; `x=1, x=2` and `x=1, 2` become one equation of x and a list."""
        if len(nodes) == 1:
            return nodes[0]
        first, names = nodes[0], {node[1] if node[0] == "equation" else "" for node in nodes}
        if (
            first[0] == "equation"
            and first[2] in ("letter", "other")
            and names <= {first[1], ""}
            and len(first[3]) == 2
        ):
            is_same = names == {first[1]} and all(len(node[3]) == 2 for node in nodes)
            if is_same or not any(node[0] in ("equation", "relation") for node in nodes[1:]):
                values = [node[3][1] if node[0] == "equation" else node for node in nodes]
                return ["equation", first[1], first[2], [first[3][0], ["list", joiner, values]]]
        return ["list", joiner, nodes]

    def _related(self, parts: list[str], signs: list[str]) -> Node:
        """Return the node of what is joined by signs of relations."""
        signs = [sign.strip() for sign in signs]
        if set(signs) == {"="} and not parts[0] and len(parts) == 2:
            return self.node(parts[1])
        if not all(parts):
            return self._joined(parts, signs)
        if signs == ["="] and re.fullmatch(_LETTER, parts[1]) and not self._name(parts[0], "")[1]:
            parts = parts[::-1]  # 3 = x
        members = [self.node(part) for part in parts]
        is_in = signs == [r"\in"] and (members[1][0] in ("set", "tuple") or re.search(_SETS, parts[1]))
        if set(signs) == {"="} or is_in:
            name, kind = self._name(parts[0], " ".join(parts[1:]))
            if kind or not is_in:
                return ["equation", name, kind, members]
        if not set(signs) & {"=", r"\in"}:
            return ["relation", signs, members]
        return self._joined(parts, signs)

    def _joined(self, parts: list[str], signs: list[str]) -> Node:
        """Return the text of parts that are joined by signs, and have no other structure."""
        return ["text", _as_text("".join(part + sign for part, sign in zip(parts, [*signs, ""], strict=True)))]

    def _name(self, left: str, right: str) -> tuple[str, str]:
        """Return the name that an equation gives to its right side, and the name's kind; two empty texts for none."""
        if re.fullmatch(_LETTER, left):
            letters = right if left.startswith("\\") else re.sub(r"\\text\{[^{}]*\}|\\[A-Za-z]+", " ", right)
            occurs = re.search(re.escape(left) + (END if left.startswith("\\") else ""), letters)
            return ("", "") if occurs else (left, "letter")
        if re.fullmatch(_OTHER_NAME, left) and not self.for_number:
            return _spaced(left), "other"
        word = re.search(r"\\text\{|[A-Za-z]{3}|^[A-Z]{2}$", left)
        is_word = word is not None and not re.search(r"\d|\\(?!text\{)", left)
        is_word = is_word and not re.search(_GUESS, left)
        return (_as_text(left), "word") if is_word and self.law(f"{left} = 1") else ("", "")

    def _group(self, text: str) -> Node | None:
        """Return the node of what is in one pair of brackets, else None. Brackets around one part change nothing."""
        found = re.fullmatch(r"(?s)(\\\{|\\langle|[(\[{])(.*?)(\\\}|\\rangle|[)\]}])", text)
        if found is None or f"{found[1]}{found[3]}" not in _PAIRS or split(found[2], ",") is None:
            return None
        signed = _both_signs(text)
        if signed:
            return ["list", ",", [self.node(one) for one in signed]]
        opening, inner, closing = found[1], found[2].strip(), found[3]
        condition = self._condition(inner) if opening in (r"\{", "{") else None
        if condition is not None:
            return condition
        parts = [part for part, _ in split(inner, _JOINT) or []]
        if opening == "{" or len(parts) == 1:
            # half an interval with one end is nothing, and a set with a set in it is not the set in it
            is_other = f"{opening}{closing}" in ("[)", "(]") or (opening == r"\{" and re.search(_SETS, inner))
            return None if is_other else self.node(inner, inside=True)
        nodes = [self.node(part, inside=True) for part in parts if part]
        if not nodes or re.search(_ENDLESS, text):
            return ["text", _as_text(text)]
        return ["set", nodes] if opening == r"\{" else ["tuple", f"{opening}{closing}", nodes]

    def _condition(self, inner: str) -> Node | None:
        r"""Return the node of the condition in `x \mid x > 2`, or the text of another one; None for no condition."""
        builder = split(inner, r"\\mid(?![A-Za-z])|\||:") or []
        if len(builder) < 2:
            return None
        is_real = re.fullmatch(rf"({_LETTER})(?:\s*\\in\s*\\mathbb\s*\{{R\}})?", builder[0][0])
        if is_real and len(builder) == 2:
            node = self.node(builder[1][0])
            is_named = re.search(rf"(?<![A-Za-z\\]){re.escape(is_real[1])}{END}", builder[1][0])
            if is_named and node[0] in ("relation", "equation", "list", "congruence"):
                return node
        return ["text", _as_text(inner)]

    def _leaf(self, text: str) -> Node:
        """Return the node of a plain part: a leaf, a text, or the list that a plus-minus sign stands for."""
        whole, text = text, self._without_unit(re.sub(r"\s*%$", "", text))
        letter = re.fullmatch(r"\\text\{\s*\(?\s*([A-Za-z])\s*\)?\s*\.?\s*\}", text)
        listed = re.fullmatch(r"\\text\{\s*([A-Z](?:\s*,\s*[A-Z])*)\s*\}", text)
        if letter or listed:
            return self.node((letter or listed or [""])[1])
        based = re.fullmatch(r"(\(?(?=[A-Fa-f]*\d)[0-9A-Fa-f]+\)?)\s*_\s*\{?\s*(\d+|\\text\{\s*\w+\s*\})\s*\}?", text)
        if based:
            base = re.sub(r"\\text\{|[\s}]", "", based[2])
            number = _BASES.index(base) + 2 if base in _BASES else base
            return ["text", f"{based[1].strip('()')} in base {number}".casefold()]
        signed = _both_signs(text)
        if signed:
            return ["list", ",", [self._leaf(one) for one in signed]]
        plain = without_commands(text)
        if r"\text" in text or re.search(r"[A-Za-z]{4}", plain) or re.search(f"{_IGNORED}|{_ENDLESS}", text):
            return ["text", _as_text(whole)]
        return ["leaf", _spaced(re.sub(_THOUSANDS, "", text))]

    def _without_unit(self, text: str) -> str:
        r"""Return a plain part without the unit at its end, which stands in `\text`, as in `2\text{ cm}^2`."""
        bare = re.fullmatch(rf"(.*?[^\s_^\\{{(+*/=-])\s+{_BARE_UNIT}", text)
        if bare and not self.keep_letters:
            return bare[1]
        for _ in range(3):
            unit = re.fullmatch(
                r"(.*[^\s_^\\{(+*/=-])\s*\\text\{([^{},;0-9]*)\}\s*(?:\^\s*(?:[23]|\{\s*[23]\s*\}))?", text
            )
            if unit is None:
                break
            if self.keep_letters and re.fullmatch(r"\s*[A-Za-z]\s*", unit[2]):
                return f"{unit[1]} {unit[2].strip()}"
            if not self.law(f"1 {unit[2]}"):
                break
            text = unit[1]
        return text


def _both_signs(text: str) -> list[str]:
    r"""Return what a text with up to three `\pm` and `\mp` stands for; nothing for any other text.

    With a `\mp` among them, the signs are read together, else each by itself.
    """
    signs = re.findall(rf"\\[pm][pm]{END}", text)
    if not 0 < len(signs) <= 3:
        return []
    if r"\mp" in signs:
        pairs = (("+", "-"), ("-", "+"))
        return [re.sub(rf"\\mp{END}", lower, re.sub(rf"\\pm{END}", upper, text)) for upper, lower in pairs]
    pieces = re.split(rf"\\pm{END}", text)
    return [
        "".join(piece + sign for piece, sign in zip(pieces, [*chosen, ""], strict=True))
        for chosen in product("+-", repeat=len(signs))
    ]


def _as_text(text: str) -> str:
    r"""Return a part as it is compared where it is compared as text: without `\text` and spaces, in small letters."""
    return _spaced(re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)).casefold()


def _spaced(text: str) -> str:
    """Return a text with one space between letters and digits that have some, and none elsewhere."""
    return re.sub(r"(?<!\w) | (?!\w)", "", " ".join(text.split()))
