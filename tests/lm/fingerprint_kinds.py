"""A student of many kinds of code and state, as source text."""

KINDS = """
import collections, dataclasses, enum, functools, operator, string, types
import dspy
import other, parts

class Slotted:
    __slots__ = ("style",)
    def __init__(self, style): self.style = style
SLOTTED = Slotted("slot")
@dataclasses.dataclass(slots=True)
class Data:
    style: str = "field default"
    more: list = dataclasses.field(default_factory=lambda: ["field factory"])
DATA = Data("slots of a dataclass")
class Words(list): pass
WORDS = Words(["item of a list of its own"]); WORDS.style = "attribute of a list"
class Texts(dict): pass
TEXTS = Texts(a="item of a dict of its own"); TEXTS.style = "attribute of a dict"
class Kinds(set): pass
KINDS = Kinds({"b", "a", "c"}); KINDS.style = "attribute of a set"
class Meta(type):
    @property
    def text(cls): return "member of a metaclass"
class WithMeta(metaclass=Meta): pass
class Described:
    def __get__(self, owner, kind): return "descriptor"
class Color(enum.Enum):
    RED = "value of a member"
    BLUE = "blue"
    def shout(self): return "method of an enum"
CHOSEN = Color.RED
HIDDEN = "name of globals"
GOTTEN = "get of globals"
UNREAD = "never read"
DEFAULTS = collections.defaultdict(lambda: "default factory")
SPACE = types.SimpleNamespace(style=lambda: "function in a namespace")
SPACE.one, SPACE.two = 1, 2
TEMPLATE = string.Template("template $a")
PATTERN = __import__("re").compile("a" * 300 + "end of a pattern")
PARTIAL = functools.partial(lambda x, y: x, "argument of a partial")
def first(): return "chosen function"
def second(): return "other function"
PICKED = first
DEEP = "constant of a helper"
def helper(text, more="default", *, key="keyword default"): return deeper() + text + more + key
def deeper(): return DEEP
def decorated(style):
    def around(f):
        @functools.wraps(f)
        def inner(*a): return style + f(*a)
        return inner
    return around
@decorated("argument of a decorator")
def inside(): return "decorated function"
class Around:
    def __init__(self, f, style): self.f, self.style = f, style; functools.update_wrapper(self, f)
    def __call__(self): return self.f() + "class of a decorator"
def plain():
    "A docstring of a decorated function."
    return "function in a decorator's class"
AROUND = Around(plain, "state of a decorator's class")
@functools.lru_cache
def cached(): return "cached function"
def closure(value):
    def one():
        def two(): return value
        return two
    return one
CLOSED = closure("closure in a closure")
@functools.singledispatch
def dispatched(x): return "dispatch"
@dispatched.register
def _(x: int): return "registered"
def styled(): return styled.style
styled.style = "attribute of a function"
READ = operator.add
HOLDER = types.SimpleNamespace(count=0)
class Counter:
    total = 0
    def __init__(self): self.n, self.seen, self.kept = 0, [], {}
    def up(self):
        self.n += 1
        seen = self.seen
        seen.append(1)
        self.kept["a"] = 1
COUNTER = Counter()
LOG = []
class Anything:
    __slots__ = ("unset",)
    def __getattr__(self, name): return self
ANYTHING = Anything()

class Base(dspy.Module):
    style = "inherited attribute"
    def told(self): return "inherited method"

class Student(Base):
    described = Described()
    texts = {"b": lambda: "lambda in a dict", "a": lambda: "second lambda"}
    def __init__(self):
        super().__init__()
        self.tell = dspy.Predict("q -> a")
        self.run = self._late
        self.call = lambda: "lambda of an attribute"
        self.data, self.words = Data("state"), ["word"]
    def _late(self): return "bound method"
    @functools.cached_property
    def hint(self): return "cached property"
    def _say(self, k): return k
    say = functools.partialmethod(_say, "argument of a partialmethod")
    @functools.singledispatchmethod
    def kind(self, x): return "dispatch of a method"
    @kind.register
    def _(self, x: str): return "registered of a method"
    @property
    def shown(self): return "getter"
    @shown.setter
    def shown(self, x): self._shown = "setter"
    @shown.deleter
    def shown(self): print("deleter")
    @functools.lru_cache
    def kept(self): return "cached method"
    @staticmethod
    def static(): return "static method"
    @classmethod
    def made(cls): return "class method"
    def forward(self, q):
        from parts import go, Klass as K
        import parts as p, pack.sub
        import pack.deep as d
        from pack import sibling
        import absent_module_of_nobody
        self.hint, self.say(), self.kind(1), self.run(), self.call()
        HOLDER.count += 1
        Counter.total += 1
        COUNTER.up()
        log = LOG
        log.append(q)
        styled.calls = 1
        return (
            go() + K().run() + p.CONSTANT + pack.sub.name() + d.name() + sibling.name()
            + getattr(other, "known") + globals()["HIDDEN"] + globals().get("GOTTEN") + SLOTTED.style + DATA.style
            + WORDS.style + TEXTS.style + KINDS.style + WithMeta.text + CHOSEN.value + DEFAULTS[q] + SPACE.style()
            + TEMPLATE + PATTERN + PARTIAL() + PICKED() + second() + helper(q) + inside() + AROUND() + cached()
            + READ + ANYTHING + CLOSED()() + dispatched(1) + styled() + (lambda: "lambda within")()
        )

def metric(example, pred): return 1.0
"""
FILES = {
    "other.py": 'known = "literal name"\nunknown = "not read of a module"\n',
    "parts.py": 'CONSTANT = "constant imported within"\nSTYLE = "what it reads"\n'
    'def go(): return "function imported" + STYLE\n'
    'class Klass:\n    def run(self): return "class imported"\n',
    "pack/__init__.py": "",
    "pack/sub.py": 'from pack.far import far\ndef name(): return "package" + far()\n',
    "pack/far.py": 'def far():\n    from .near import NEAR\n    return NEAR\n',
    "pack/near.py": 'NEAR = "relative import"\n',
    "pack/deep.py": 'def name(): return "import as"\n',
    "pack/sibling.py": 'def name(): return "module from a package"\n',
}  # fmt: skip
