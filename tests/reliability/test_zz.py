import pytest
from tests.reliability import test_bad_input as t
def test_all():
    out=[]
    for what, e in t.PURE.items():
        try: c=t.measure(what, e, 150); print(what, c.note, round(c.seconds,1))
        except BaseException as x: out.append(str(x)[:1500])
    print("\n----\n".join(out)); assert not out
world = t.world
world=t.world
def test_world(world):
    out=[]
    for what, e in t.entries(*world).items():
        try: t.measure(what, e, 150 if "bogp.run " not in what and what!="database.build" else 12); print(what)
        except BaseException as x: out.append(str(x)[:1500])
    print("\n----\n".join(out)); assert not out
