"""Hypothesis strategies for any JSON value of `json.loads`: also lone surrogates, infinities and huge integers."""

from hypothesis import strategies as st

any_text = st.text(st.characters(exclude_categories=()), max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**400)
    | st.floats(allow_nan=True, allow_infinity=True)
    | any_text
)
any_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
any_object = st.dictionaries(any_text, any_json, max_size=3)

# Objects with the fields of a request, valid and invalid, so that every check is reached.
any_request = st.fixed_dictionaries(
    {},
    optional={
        "chatbot_id": st.just("support-chat") | any_json,
        "input_data": any_object | any_json,
        "idempotency_key": any_text | any_json,
        "timeout_seconds": st.integers() | st.floats() | any_json,
        "metadata": any_object | any_json,
        "deliver_to": st.lists(st.sampled_from(["sns", "dynamodb", "eventbridge"])) | any_json,
        "progress_events": st.booleans() | any_json,
        "extra": any_json,
    },
)
