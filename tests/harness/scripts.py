"""Solutions and tests of all forms, each with what follows in a module of its own: the tests, behind `----`."""

FORMS = r"""
from collections import namedtuple
P = namedtuple('P', 'x y')
def f(a, b):
    return P(a, b)
----
assert f(1, 2).x == 1 and f(1, 2) == P(1, 2) == (1, 2)
----
p = f(1, 2)
assert isinstance(p, P) and p._fields == ('x', 'y') and repr(p) == 'P(x=1, y=2)'
----
assert f(1, 2)._replace(x=3) == f(3, 2)
====
def f(x):
    return x
----
t = (1, 2)
assert f(t) is t
----
s = 'a' * 50
assert f(s) is s
----
n = float('nan')
assert f(n) is n and [f(n)] == [n]
----
o = object()
assert f(o) is o and f(int) is int and f(len) is len
----
assert f(iter([1, 2])).__next__() == 1 and f(lambda: 5)() == 5
====
import os, time
def f(k):
    return {'t': time.gmtime(0), 's': os.stat('/'), 'u': os.times(), 'l': [time.gmtime(86400)]}[k]
----
import time
t = f('t')
assert t.tm_year == 1970 and t.tm_zone == time.gmtime(0).tm_zone and t[0] == 1970
assert isinstance(t, time.struct_time) and t == time.gmtime(0) and time.strftime('%Y', t) == '1970'
----
assert f('l')[0].tm_mday == 2 and f('s').st_mtime_ns > 1 and f('s').st_mode == f('s')[0] and f('u').user >= 0
----
assert f('t').tm_year == 1971
====
from collections import Counter, defaultdict, deque
def f(k):
    return {'d': defaultdict(list, {1: [2]}), 'c': Counter('aab'), 'q': deque([1, 2], maxlen=2)}[k]
----
assert f('d')[1] == [2] and f('d')[9] == [] and type(f('c')) is Counter
----
q = f('q')
q.append(3)
assert list(q) == [2, 3]
----
assert f('c') + f('c') == {'a': 4, 'b': 2}
====
def f(x, seen=[]):
    seen.append(x)
    return seen
----
assert f(1) == [1]
----
assert f(1) is f(2)
====
def f(x, seen=[]):
    seen.append(x)
    return seen
----
a = f(1)
b = f(2)
assert a is not b
====
def f(n):
    return [[0] * n] * n
----
m = f(2)
m[0][0] = 1
assert m == [[1, 0], [0, 0]]
====
def f(n):
    return [[0] * n for _ in range(n)]
----
m = f(2)
m[0][0] = 1
assert m == [[1, 0], [0, 0]]
====
n = 0
def f():
    global n
    n += 1
    return n
----
assert f() == 1
----
assert f() == 2
----
assert n == 2
====
def f(x):
    return x * LIMIT
----
LIMIT = 3
assert f(1) == 3
----
LIMIT = 4
----
assert f(1) == 4
====
def f(g):
    return [g(i) for i in range(3)]
----
a = []
assert f(lambda x: a.append(x) or x) == a == [0, 1, 2]
====
def f(it):
    return next(it)
----
i = iter([1, 2])
assert f(i) == 1 and next(i) == 2
====
def f(d):
    d['a'].append(d.pop('b'))
----
d = {'a': [], 'b': 1}
e = d['a']
f(d)
assert d == {'a': [1]} and e == [1]
====
def f(n):
    for i in range(n):
        yield i
----
g = f(3)
assert next(g) == 0 and list(g) == [1, 2] and list(g) == []
====
def f(n):
    yield from 'abc'[:n]
----
assert ''.join(f(2)) == 'ab'
----
assert dict(zip(f(2), f(2))) == {'a': 'a', 'b': 'b'}
====
def f(s):
    return {c for c in s}
----
assert f('ab') == {'a', 'b'}
----
assert 'a' in f('a')
----
assert f('a') < f('ab')
====
def f(a):
    a[0] = a
    return a
----
x = [0]
assert f(x)[0] is x
====
def f(x):
    return (x, [x])
----
t = f([1])
assert t[0] is t[1][0]
====
def f():
    return int(input()) + 1
----
import builtins
builtins.input = lambda *a: '4'
assert f() == 5
====
def f():
    return int(input()) + 1
----
import io, sys
sys.stdin = io.StringIO('7\n8\n')
assert f() + f() == 17
====
def f(x):
    print('<', x)
----
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as b:
    f(1)
assert b.getvalue() == '< 1\n'
====
class Err(ValueError):
    pass
def f(x):
    raise Err(x)
----
try:
    f(1)
except Err as e:
    assert e.args == (1,)
----
try:
    f(1)
except ValueError as e:
    assert type(e) is Err
====
def f(x):
    return lambda y: x + y
----
assert f(1)(2) == 3
----
assert callable(f(1)) and f(1)(f(2)(3)) == 6
====
def f(x):
    return type(x)
----
assert f(1) is int
----
assert f('') == str
----
assert f([]) in (list, tuple)
====
import random
def f():
    return random.random()
----
import random
random.seed(1)
a = f()
random.seed(1)
assert a == f()
====
import asyncio
async def f(x):
    await asyncio.sleep(0)
    return x
----
import asyncio
assert asyncio.run(f(1)) == 1
----
import asyncio
async def g():
    return await asyncio.gather(f(1), f(2))
assert asyncio.run(g()) == [1, 2]
====
def f(s):
    return s.read()
----
import io
s = io.StringIO('abc')
assert f(s) == 'abc' and f(s) == '' and s.tell() == 3
====
def f(n):
    return n.left.value
----
class N:
    def __init__(self, v):
        self.value, self.left = v, None
r = N(1)
r.left = N(2)
assert f(r) == 2
====
from collections import namedtuple
P = namedtuple('P', 'x y')
def f():
    return P(1, 2)
----
assert f() == (1, 2)
----
assert f()[0] == 1
"""

SETUP_FORMS = r"""
def f(n):
    p = None
    while n:
        n.nxt, p, n = p, n, n.nxt
    return p
----
h = chain(1, 2, 3)
assert unchain(f(h)) == [3, 2, 1] and unchain(h) == [1]
====
def f(n):
    n.v = 9
    return n
----
h = chain(1)
assert f(h) is h and h.v == 9 and isinstance(f(h), Node)
====
def f(a):
    return P(a)
----
assert f(1) == P(1)
----
assert {f(1), f(2), f(1)} == {P(1), P(2)}
----
assert f(1) != P(2)
====
def f(a):
    return T(a, [a])
----
assert f(1) == T(1, [1]) == (1, [1])
----
assert f(1).y == [1]
====
def f(a):
    return [Color(a)]
----
assert f(1) == [Color.RED]
----
assert f(2)[0] is Color.BLUE
====
def f(a):
    s = S()
    s.a = a
    return s
----
assert f([1]).a == [1]
====
def f(a):
    return L(a)
----
assert f([1]) == [1] and type(f([1])) is L
====
class Node:
    def __init__(self, v, nxt=None):
        self.v, self.nxt = v, nxt
def f(v):
    return Node(v)
----
assert f(1).v == 1
"""
