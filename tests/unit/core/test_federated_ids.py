import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.federated_ids import FederatedIds, ItemDigests, join_id, split_id

# The contents of an index, by few different digests, each with a number of items.
indexes = st.lists(
    st.dictionaries(st.integers(0, 9), st.integers(1, 3), max_size=8), min_size=1, max_size=4
)


def make_members(contents):
    """Return the items of indexes, and the digest and the part of each by index and id."""
    members, items = [], {}
    for index, each in enumerate(contents):
        pairs = [(digest, part) for digest, parts in each.items() for part in range(parts)]
        ids = np.arange(1, len(pairs) + 1) * (index + 2)
        digests = np.zeros((len(pairs), 32), np.uint8)
        # Digests that begin alike are different contents.
        digests[:, 31] = [digest for digest, _ in pairs]
        parts = np.array([part for _, part in pairs], np.int64)
        members.append(ItemDigests(ids, parts, digests))
        items |= {(index, item): pair for item, pair in zip(ids.tolist(), pairs, strict=True)}
    return members, items


@given(indexes)
def test_each_content_is_that_of_the_first_index_that_has_it(contents):
    members, items = make_members(contents)
    ids = FederatedIds(members)
    for index, member in enumerate(members):
        federated = ids.federate(index, member.ids).tolist()
        for item_id, each in zip(member.ids.tolist(), federated, strict=True):
            digest, part = items[index, item_id]
            owner, local = split_id(each)
            assert owner == min(n for n, known in enumerate(contents) if digest in known)
            found, found_part = items[owner, local]
            assert found == digest
            assert found_part == (part if part < contents[owner][digest] else 0)
            assert (item_id in ids.copies(index)) == (owner != index)


@given(indexes, st.randoms())
def test_ids_go_to_all_items_that_they_mean_and_back(contents, random):
    members, _ = make_members(contents)
    ids = FederatedIds(members)
    every = {i for n, member in enumerate(members) for i in ids.federate(n, member.ids).tolist()}
    chosen = random.sample(sorted(every), random.randint(0, len(every)))
    wanted = np.array(chosen, np.int64)
    for index, member in enumerate(members):
        positions, local = ids.local(index, wanted)
        assert ids.federate(index, local).tolist() == wanted[positions].tolist()
        means = ids.federate(index, member.ids)
        assert sorted(local.tolist()) == member.ids[np.isin(means, wanted)].tolist()
    owned = [
        (n, place, i)
        for n, places, own in ids.own(wanted)
        for place, i in zip(places, own, strict=True)
    ]
    assert sorted(place for _, place, _ in owned) == list(range(len(chosen)))
    assert all(join_id(n, int(i)) == wanted[place] for n, place, i in owned)
    assert all(split_id(join_id(n, int(i))) == (n, i) for n, _, i in owned)


def test_plain_ids_are_of_no_index():
    assert split_id(12)[0] == -1
