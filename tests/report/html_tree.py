"""A page as a tree, by the standard library's parser, so that tests read its structure and not its spelling."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class Node:
    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    parent: "Node | None" = None
    children: list = field(default_factory=list)  # of nodes and texts

    def all(self, tag=None, **attributes):
        """Every node below of this tag and these attributes (`class_` holds one of the classes), in order."""
        wanted = attributes.pop("class_", None)
        for child in self.children:
            if isinstance(child, Node):
                named = tag in (None, child.tag) and attributes.items() <= child.attributes.items()
                if named and (wanted is None or wanted in child.get("class").split()):
                    yield child
                yield from child.all(tag, **attributes, **({"class_": wanted} if wanted else {}))

    def one(self, tag=None, **attributes):
        found = list(self.all(tag, **attributes))
        assert len(found) == 1, f"{len(found)} {tag} with {attributes}"
        return found[0]

    def get(self, name):
        return self.attributes.get(name) or ""

    @property
    def text(self):
        parts = (child.text if isinstance(child, Node) else child for child in self.children)
        return " ".join("".join(parts).split())

    def above(self, tag):
        """The ancestors of this tag, the nearest first."""
        node = self.parent
        while node is not None:
            if node.tag == tag:
                yield node
            node = node.parent


class _Builder(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = self.at = Node("document")

    def handle_starttag(self, tag, attrs):
        node = Node(tag, dict(attrs), self.at)
        self.at.children.append(node)
        if tag not in _VOID:
            self.at = node

    def handle_startendtag(self, tag, attrs):
        self.at.children.append(Node(tag, dict(attrs), self.at))

    def handle_endtag(self, tag):
        assert tag == self.at.tag, f"</{tag}> closes <{self.at.tag}>, line {self.getpos()[0]}"
        self.at = self.at.parent

    def handle_data(self, data):
        self.at.children.append(data)


def parse(html: str) -> Node:
    """The tree of `html`; an end tag that closes another element fails."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert builder.at is builder.root, f"<{builder.at.tag}> is not closed"
    return builder.root
