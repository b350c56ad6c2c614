"""Turn texts into points: their vectors, a map of them in two dimensions, and which texts are nearly the same."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError, one_line
from grpo_colab.utils.timeouts import run_with_timeout

MODEL: Final = "all-MiniLM-L6-v2"
PATIENCE_S: Final = 120.0  # to load the model, or to download its 90 MB
LONGEST: Final = 20_000  # characters of a text; what follows is not read
DIMENSIONS: Final = 100
MOST_TSNE: Final = 20_000  # points: t-SNE takes a minute or two for them
ALIKE: Final = 0.5  # similarity of near-duplicates
TELLING: Final = 0.2  # a word's mean weight in a group above that in all texts
# A word with a capital is left out: in English it is a name or begins a sentence, and names say nothing of a topic.
WORD: Final = r"\b(?![A-Z])[^\W\d_]{2,}\b"


class Pair(NamedTuple):
    """A test and a training text by their positions, and their similarity from 0 to 1."""

    test: int
    train: int
    similarity: float


def embed_texts(texts: Sequence[str], words: Any, model: str | None) -> tuple[Any, str]:
    """Return a unit vector per text (an array of texts x dimensions, three or more), and what made the vectors.

    They come from the sentence-transformers model `model` or else MODEL, which may be downloaded. Where MODEL cannot be
    loaded within PATIENCE_S seconds, they come from `words` (of `tfidf`) by truncated SVD, and a text without a known
    word has zeros. Raises SettingError where a `model` that was asked for by name cannot be loaded.
    """
    import numpy as np

    try:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise ImportError("sentence-transformers is not installed")
        loaded = run_with_timeout(PATIENCE_S, _load_sentence_transformer, model or MODEL)
    except Exception as error:  # whatever a broken install, a hub or a folder without a model raises
        why = str(error) if type(error) is ImportError else f"{MODEL} cannot be loaded: {one_line(error)}"
        if model:
            raise SettingError(
                f"cannot be loaded ({one_line(error)})",
                setting="--model",
                value=model,
                remedy=(
                    "remove it for TF-IDF, or write the name or the folder of a sentence-transformers model, with that "
                    "package installed"
                ),
            ) from error
        vectors, how = _reduce(words), f"TF-IDF and truncated SVD ({why})"
    else:
        vectors = np.asarray(loaded.encode(list(texts), show_progress_bar=False), dtype=np.float32)
        how = f"the sentence-transformers model {model or MODEL}"
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1)
    return np.pad(vectors, ((0, 0), (0, max(0, 3 - vectors.shape[1])))), how


def _load_sentence_transformer(name: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(name)


def tfidf(texts: Sequence[str]) -> tuple[Any, list[str]]:
    """Return a sparse matrix of texts x words with their TF-IDF weights, and the words.

    Where half of the texts share no word with another, as in other scripts, in code or among a handful of texts, the
    columns are runs of one to three characters instead, and the list of words is empty. Texts of nothing but spaces
    give one column of zeros.
    """
    import numpy as np
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    by_word = {"token_pattern": WORD, "lowercase": False, "stop_words": "english", "min_df": 2}
    for options in (by_word, {"analyzer": "char_wb", "ngram_range": (1, 3)}):
        vectoriser = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **options)
        try:
            found = vectoriser.fit_transform(texts)
        except ValueError:  # there is no word at all
            continue
        if options is not by_word:
            return found, []
        if 2 * (found.getnnz(axis=1) > 0).sum() > len(texts):
            return found, list(vectoriser.get_feature_names_out())
    return csr_matrix((len(texts), 1), dtype=np.float32), []


def _reduce(words: Any) -> Any:
    """Return the rows of a sparse matrix in at most DIMENSIONS dimensions, by truncated SVD."""
    from sklearn.utils.extmath import randomized_svd

    left, singular, _ = randomized_svd(words, min(DIMENSIONS, *words.shape), random_state=0)
    return left * singular


def lay_out(vectors: Any) -> tuple[Any, str]:
    """Return a place on a map for each vector (an array of texts x 2), and the name of the method.

    That is t-SNE. It is principal components for fewer than eight vectors, for more than MOST_TSNE, and where all are
    the same.
    """
    import numpy as np

    centred = vectors - vectors.mean(axis=0)
    if 8 <= len(vectors) <= MOST_TSNE and np.abs(centred).max() > 1e-6:
        from sklearn.manifold import TSNE

        # a coarser angle and fewer iterations than by default: a third of the time, and the same clusters
        tsne = TSNE(
            init="pca", perplexity=min(20, (len(vectors) - 1) / 3), angle=0.8, max_iter=400, random_state=0, n_jobs=-1
        )
        return tsne.fit_transform(vectors), "t-SNE"
    return centred @ np.linalg.svd(centred.T @ centred)[0][:, :2], "principal components"


def find_topics(places: Any, words: Any, names: Sequence[str]) -> list[tuple[float, float, str]]:
    """Return a topic (x, y, word) per dense place of a map: the middle of its upper edge, and its most telling word.

    `words` and `names` are those of `tfidf`. A place without a telling word has no topic, and a word that several
    places share is given once. The biggest place comes first. The list is empty for fewer than 100 places, and where
    `names` is empty.
    """
    import numpy as np
    from sklearn.cluster import HDBSCAN

    if not names or len(places) < 100:
        return []
    group_of = HDBSCAN(min_cluster_size=max(10, len(places) // 150), min_samples=5, copy=True).fit_predict(places)
    overall = words.mean(axis=0)
    found: dict[str, tuple[float, float, str]] = {}
    groups, sizes = np.unique(group_of[group_of >= 0], return_counts=True)
    for group in groups[np.argsort(-sizes, kind="stable")]:  # the biggest first: on a small map it keeps its word
        own = np.asarray(words[group_of == group].mean(axis=0) - overall).ravel()
        (x, _), (_, y) = np.quantile(places[group_of == group], (0.5, 0.95), axis=0)
        if own.max() > TELLING:
            word = names[int(own.argmax())]
            found.setdefault(word, (float(x), float(y), word))
    return list(found.values())


def near_duplicates(train: Sequence[str], test: Sequence[str]) -> list[Pair]:
    """Return the test texts that resemble a training text, each with the one most like it, the most similar first.

    The similarity is the cosine between the sets of their runs of three words, in which all numbers are the same. It is
    ALIKE or more. A story that is told again with other numbers reaches nearly 1; with a few other names or another end
    it stays above a half. The list is empty where no text has a word. `train` must not be empty.
    """
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    vectoriser = CountVectorizer(analyzer=runs_of_words, binary=True, dtype=np.float32)
    try:
        counts = normalize(vectoriser.fit_transform([*train, *test]))
    except ValueError:  # there is no word at all
        return []
    learnt, held_out = counts[: len(train)].T.tocsr(), counts[len(train) :]
    pairs, chunk = [], max(1, 4_000_000 // len(train))  # test texts at once, to bound the memory
    for start in range(0, len(test), chunk):
        cosines = (held_out[start : start + chunk] @ learnt).toarray()
        best, cosine = cosines.argmax(axis=1), cosines.max(axis=1)
        pairs += [Pair(start + int(i), int(best[i]), float(cosine[i])) for i in np.flatnonzero(cosine >= ALIKE)]
    return sorted(pairs, key=lambda pair: -pair.similarity)


def runs_of_words(text: str) -> list[str]:
    """Return a text's runs of three words, in lower case, every number as 0.

    A text of one or two words is one run. A text without words has none.
    """
    found = re.findall(r"\d[\d.,/]*|[^\W\d_]+", text.lower())
    words = ["0" if word[0].isdigit() else word for word in found]
    return [" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))] if words else []
