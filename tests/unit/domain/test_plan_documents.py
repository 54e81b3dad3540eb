"""Recovery plans as documents: out and in again without a loss, names found, bad bytes refused."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.plan_documents import document_of, groups_of_document
from service_hub.domain.protection import Operation
from service_hub.domain.recovery_plans import (
    PLAN_OPERATIONS,
    GroupType,
    PlanAction,
    PlanScript,
    RecoveryGroup,
    RecoveryPlan,
    arranged,
    check_plan,
)
from service_hub.hub_api.plan_files import (
    DEPTH_MAX,
    JSON_TYPE,
    YAML_TYPE,
    document_bytes,
    document_object,
    plan_document,
)
from tests.support.many_items import an_item, item_id
from wire_contract.plan_documents import FORMAT, GroupPart, PlanDocument
from wire_contract.vocabulary import Direction, Side

SERVERS = {Side.PRIMARY: "Tokyo", Side.RECOVERY: "Osaka"}
TYPES = (JSON_TYPE, YAML_TYPE)

# Whatever a database keeps as text.
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
paths = words.map(lambda text: f"\\RPScripts\\{text}"[:1_000])
scripts = st.builds(
    PlanScript,
    path=paths,
    side=st.sampled_from(Side),
    seconds=st.integers(1, 86_400),
    undo_path=st.just("") | paths,
)
kinds = st.lists(st.sampled_from(PLAN_OPERATIONS), min_size=1, max_size=7, unique=True).map(tuple)
directions = st.lists(st.sampled_from(Direction), max_size=2, unique=True).map(tuple)
actions = st.builds(
    PlanAction,
    name=words.map(lambda text: text[:128]),
    kinds=kinds,
    directions=directions,
    manual=words,
) | st.builds(
    PlanAction,
    name=words.map(lambda text: text[:128]),
    kinds=kinds,
    directions=directions,
    script=scripts,
)
NUMBERS = tuple(range(1, 7))
few = st.lists(actions, max_size=2).map(tuple)


def plan_of(*groups: RecoveryGroup) -> RecoveryPlan:
    """Return a plan between the two servers of the items."""
    return RecoveryPlan(
        id="plan",
        vault_id="vault",
        name="Payroll",
        primary_provider_id="tokyo-provider",
        recovery_provider_id="osaka-provider",
        groups=arranged(groups),
    )


def boot(*numbers: int) -> RecoveryGroup:
    return RecoveryGroup(
        group_type=GroupType.BOOT, members=tuple(item_id(number) for number in numbers)
    )


def written(machines: str) -> bytes:
    """Return a document of one group."""
    return (
        f'{{"name": "P", "primary": "Tokyo", "recovery": "Osaka", "groups": [{machines}]}}'
    ).encode()


@given(
    st.lists(words, min_size=len(NUMBERS), max_size=len(NUMBERS)),
    st.lists(st.sampled_from((0, 1, 2)), min_size=len(NUMBERS), max_size=len(NUMBERS)),
    st.lists(few, min_size=5, max_size=5),
)
@example(["a", "A", item_id(1), "ß", "SS", "2026-01-01"], [0, 0, 1, 1, 2, 2], [()] * 5)
def test_what_is_exported_is_imported_the_same(
    names: list[str], places: list[int], acts: list[tuple[PlanAction, ...]]
) -> None:
    items = [
        an_item(number).model_copy(update={"friendly_name": name})
        for number, name in zip(NUMBERS, names, strict=True)
    ]
    boots = [
        RecoveryGroup(
            group_type=GroupType.BOOT,
            members=tuple(
                item_id(each) for each, at in zip(NUMBERS, places, strict=True) if at == place
            ),
            before=acts[place],
            after=acts[4 - place],
        )
        for place in range(3)
    ]
    shutdown = RecoveryGroup(group_type=GroupType.SHUTDOWN, before=acts[3])
    plan = plan_of(shutdown, *boots)
    document = document_of(plan, SERVERS, items)
    for content_type in TYPES:
        content = document_bytes(document, content_type)
        again = plan_document(document_object(content, content_type))
        assert again == document
        assert groups_of_document(again, items) == plan.groups


def test_a_plan_of_thousands_of_machines_goes_out_and_in() -> None:
    items = [an_item(number) for number in range(1, 5_001)]
    groups = [boot(*range(first, first + 1_000)) for first in range(1, 5_001, 1_000)]
    plan = plan_of(*groups)
    for content_type in TYPES:
        content = document_bytes(document_of(plan, SERVERS, items), content_type)
        found = groups_of_document(plan_document(document_object(content, content_type)), items)
        check_plan(
            plan.model_copy(update={"groups": found}),
            {each.id: each for each in items},
            groups_max=7,
        )
        assert found == plan.groups


def test_machines_are_found_by_name_in_any_case_and_unknown_ones_are_named() -> None:
    items = [an_item(1), an_item(2), an_item(3).model_copy(update={"friendly_name": "WEB02"})]
    document = PlanDocument(
        name="P",
        primary="Tokyo",
        recovery="Osaka",
        groups=(GroupPart(machines=("Web01", item_id(3))),),
    )
    assert groups_of_document(document, items)[0].members == (item_id(1), item_id(3))
    unknown = GroupPart(machines=("db01", "web01", "db02"))
    with pytest.raises(InvalidRequestError, match=r"2 machines .*: 'db01', 'db02'. Protect them"):
        groups_of_document(document.model_copy(update={"groups": (unknown,)}), items)
    several = GroupPart(machines=("web02",))
    with pytest.raises(InvalidRequestError, match="are called 'web02'"):
        groups_of_document(document.model_copy(update={"groups": (several,)}), items)


def test_the_schema_knows_every_kind_of_operation_of_a_plan() -> None:
    kind = PlanDocument.model_json_schema()["$defs"]["ActionPart"]["properties"]["kinds"]
    assert {Operation(each) for each in kind["items"]["enum"]} == set(PLAN_OPERATIONS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[]", "must be an object"),
        (b"", "JSON|object"),
        (b"{", "valid"),
        (written('{"machine": []}'), r"groups\[0\].machine: Extra"),
        (written('{"machines": [[1]]}'), r"groups\[0\].machines\[0\]: "),
        (written('{"type": "Boots"}'), r"groups\[0\].type"),
        (
            written('{"before": [{"name": "a", "kinds": ["Commit"]}]}'),
            "either 'manual', in words, or a 'script'",
        ),
        (
            written('{"before": [{"name": "a", "kinds": ["Disable"], "manual": "m"}]}'),
            r"groups\[0\].before\[0\].kinds\[0\]",
        ),
        (b'{"format": "other/1"}', "format"),
    ],
)
def test_a_document_that_is_wrong_is_refused_with_its_place(content: bytes, says: str) -> None:
    for content_type in TYPES:
        with pytest.raises(InvalidRequestError, match=says):
            plan_document(document_object(content, content_type))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a [x]\nb: *a", "aliases"),
        ("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1), "levels deep"),
        ("!!python/object/apply:os.system [ls]", "must be an object"),
        ("a: b: c", "valid YAML"),
        ("a: \xff", "valid YAML"),
    ],
)
def test_yaml_that_could_do_harm_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        document_object(text.encode("latin-1"), YAML_TYPE)


@given(st.binary(max_size=300) | words.map(str.encode), st.sampled_from(TYPES))
@example(b"[" * 100_000, JSON_TYPE)
@example(b"{" * 5_000, YAML_TYPE)
@example(b"? ? ? ? ? ?", YAML_TYPE)
@example(b"{[a]: b}", YAML_TYPE)
@example(b"a: !!timestamp 9999-99-99", YAML_TYPE)
@example(b"a: !!int ''", YAML_TYPE)
@example(b"!!binary a", YAML_TYPE)
@example(b"- !!pairs [a]", YAML_TYPE)
def test_foreign_bytes_are_a_document_or_refused(content: bytes, content_type: str) -> None:
    try:
        document = plan_document(document_object(content, content_type))
    except InvalidRequestError:
        return
    assert document.format == FORMAT


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | words,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(sorted({*PlanDocument.model_fields, *GroupPart.model_fields})),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_foreign_objects_are_a_document_or_refused(value: object) -> None:
    content = json.dumps({"name": "P", "primary": "a", "recovery": "b", "groups": value}).encode()
    try:
        plan_document(document_object(content, JSON_TYPE))
    except InvalidRequestError as error:
        assert error.target  # noqa: PT017 -- either outcome is right; a refusal names its place
