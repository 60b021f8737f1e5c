"""A trie of patterns: which entries want a subject.

Each level is one token. A node keeps children by literal token, one for `*`, and the entries that end there; those
ending in `>` stand at the node of the token before. Cost of a match is linear in tokens, times two for each level
that has a `*` beside the literal one; an entry costs one dict slot, so that taking one out is cheap however
many share its pattern.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from headrace.core.subject import ANY_TAIL, ANY_TOKEN, tokens

E = TypeVar("E")


class _Node(Generic[E]):
    __slots__ = ("any_token", "children", "ending", "tails")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node[E]] = {}
        self.any_token: _Node[E] | None = None
        self.ending: dict[E, None] | None = None
        self.tails: dict[E, None] | None = None

    def is_empty(self) -> bool:
        return not (self.children or self.any_token or self.ending or self.tails)


class Trie(Generic[E]):
    """Entries by pattern. Patterns are valid; the same entry is inserted once."""

    def __init__(self) -> None:
        self._root: _Node[E] = _Node()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def insert(self, pattern: bytes, entry: E) -> None:
        node = self._root
        parts = tokens(pattern)
        is_tail = parts[-1] == ANY_TAIL
        for token in parts[:-1] if is_tail else parts:
            if token == ANY_TOKEN:
                if node.any_token is None:
                    node.any_token = _Node()
                node = node.any_token
            else:
                following = node.children.get(token)
                if following is None:
                    following = node.children[token] = _Node()
                node = following
        if is_tail:
            if node.tails is None:
                node.tails = {}
            node.tails[entry] = None
        else:
            if node.ending is None:
                node.ending = {}
            node.ending[entry] = None
        self._size += 1

    def remove(self, pattern: bytes, entry: E) -> bool:
        """Take an entry out, and the nodes that nobody needs any more; tell whether it was there."""
        node = self._root
        parts = tokens(pattern)
        is_tail = parts[-1] == ANY_TAIL
        path: list[tuple[_Node[E], bytes]] = []
        for token in parts[:-1] if is_tail else parts:
            path.append((node, token))
            following = node.any_token if token == ANY_TOKEN else node.children.get(token)
            if following is None:
                return False
            node = following
        held = node.tails if is_tail else node.ending
        if held is None or entry not in held:
            return False
        del held[entry]
        if not held:
            if is_tail:
                node.tails = None
            else:
                node.ending = None
        self._size -= 1
        while path and node.is_empty():
            node, token = path.pop()
            if token == ANY_TOKEN:
                node.any_token = None
            else:
                del node.children[token]
        return True

    def match(self, subject: bytes) -> tuple[list[E], int]:
        """Give the entries whose pattern matches a literal subject without empty tokens, in no certain order.

        The second answer tells how many of the last tokens did not matter: every subject with as many tokens that
        differs from this one in nothing but those has the same entries.
        """
        found: list[E] = []
        parts = tokens(subject)
        last = len(parts) - 1
        level: list[_Node[E]] = [self._root]
        decided = 0  # so many of the first tokens mattered
        for index in range(last):
            following: list[_Node[E]] = []
            for node in level:
                if node.tails is not None:
                    found += node.tails
                if node.children:
                    decided = index + 1
                    child = node.children.get(parts[index])
                    if child is not None:
                        following.append(child)
                if node.any_token is not None:
                    following.append(node.any_token)
            if not following:
                return found, last + 1 - decided
            level = following
        for node in level:
            if node.tails is not None:
                found += node.tails
            if node.children:
                decided = last + 1
                child = node.children.get(parts[last])
                if child is not None and child.ending is not None:
                    found += child.ending
            if node.any_token is not None and node.any_token.ending is not None:
                found += node.any_token.ending
        return found, last + 1 - decided

    def __iter__(self) -> Iterator[E]:
        stack = [self._root]
        while stack:
            node = stack.pop()
            yield from node.ending or ()
            yield from node.tails or ()
            stack.extend(node.children.values())
            if node.any_token is not None:
                stack.append(node.any_token)
