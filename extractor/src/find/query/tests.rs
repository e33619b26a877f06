use proptest::prelude::*;
use serde_json::json;

use super::*;

fn time(text: &str, _: Operator) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("`{text}` is no time"))
}

fn parse(text: &str) -> Result<Query, QueryError> {
    Query::parse(text, &time)
}

fn parsed(text: &str) -> Query {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn why(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The words of a call, as an index has them.
const WORDS: &[u8] = b"\"alice\" <sip:+4930123@example.com>;tag=1\x1f4930123\x1f192.0.2.7:5060\x1f486\x1fabc@host\x1f";

fn record() -> Json {
    json!({
        "call_id": "abc@host", "start_timestamp": "2023-12-01T14:30:22.123456Z", "duration_s": 2.5,
        "sip_from": "\"Alice\" <sip:+4930123@example.com>;tag=1", "sip_to": "<sip:bob@example.com>",
        "source_ip": "192.0.2.7", "state": "failed", "final_status": 486, "codecs": ["PCMA", "opus"],
        "streams": [{"mos": 4.2}, {"mos": 3.1}],
    })
}

#[test]
fn queries_are_true_and_false() {
    for (query, want) in [
        ("", true),
        ("alice", true),
        ("ALICE", true),
        ("0049-30123", true),
        ("carol", false),
        ("alice carol", false),
        ("alice or carol", true),
        ("alice and not carol", true),
        ("not (alice or carol)", false),
        ("carol or alice and 486", true),
        ("(carol or alice) and 487", false),
        ("from ~ 4930123", true),
        ("to ~ 4930123", false),
        ("to !~ 4930123", true),
        ("state = failed", true),
        ("state != failed", false),
        ("status >= 400 and status < 500", true),
        ("status>=500", false),
        ("duration > 2", true),
        ("duration > 1m30s", false),
        (
            "time > 2023-12-01T14:00:00Z and time < 2023-12-01T15:00:00Z",
            true,
        ),
        ("time < 2023-12-01T14:00:00Z", false),
        ("ip = 192.0.2.0/24", true),
        ("ip = 192.0.2.8", false),
        ("ip != 10.0.0.0/8", true),
        ("ip = 2001:db8::/32", false),
        ("source_ip = 192.0.2.7", true),
        ("mos < 3.6", true),
        ("mos > 4.5", false),
        ("codecs = opus", true),
        ("codecs != opus", false),
        ("call_id = abc@host", true),
        ("from ~ \"alice\\\" <sip\"", true),
        ("talk_s > 1", false),
        ("\"and\"", false),
    ] {
        assert_eq!(parsed(query).is_true_of(&record(), WORDS), want, "{query}");
        // Words must not rule out a condition that is true of the call.
        if want {
            assert!(parsed(query).may_be_true_of(WORDS), "{query}");
        }
    }
    assert!(!parsed("from ~ 4930999").may_be_true_of(WORDS));
    assert!(!parsed("status > 400 and carol").may_be_true_of(WORDS));
    assert!(parsed("status > 400 or carol").may_be_true_of(WORDS));
    assert!(parsed("not carol").may_be_true_of(WORDS));
    // One segment has one of the words, another one the other.
    assert!(parsed("alice and carol").may_be_true_in(WORDS));
    assert!(!parsed("dave and carol").may_be_true_in(WORDS));
}

#[test]
fn errors_say_where_and_what_was_expected() {
    for (query, place, words) in [
        ("from ~", 6, "expected a value"),
        ("from ~ 49 and", 13, "expected a word"),
        ("(alice", 6, "`)`"),
        ("alice)", 5, "or the end"),
        (
            "colour = red",
            0,
            "`colour` is no field; expected one of from, to, call_id",
        ),
        ("status ~ 4", 7, "`status` is compared with =, !=, <"),
        ("status > many", 9, "`status` expects a number, not `many`"),
        ("ip = 192.0.2.0/33", 5, "an address or a network"),
        ("time > noon", 7, "is no time"),
        ("duration > long", 11, "seconds, or a duration"),
        ("\"alice", 6, "closing"),
        ("or alice", 0, "expected a word"),
        ("alice or or bob", 9, "expected a word"),
    ] {
        let why = why(query);
        assert!(why.contains(words), "{query}: {why}");
        let mark = why.lines().last().unwrap().find('^').unwrap();
        assert_eq!(mark - 2, place, "{query}:\n{why}");
    }
    assert!(why(&"(".repeat(100_000)).contains("nested too deeply"));
}

fn queries() -> impl Strategy<Value = Query> {
    let word = any::<String>().prop_map(|text| Query::Word(Word::new(&text)));
    let condition = (0..5usize, "[ -~]{0,12}").prop_map(|(kind, text)| {
        let (field, operator, value) = match kind {
            0 => ("from", Operator::Has, text.as_str()),
            1 => ("status", Operator::AtLeast, "400"),
            2 => ("time", Operator::Below, "2023-12-01T14:30:22Z"),
            3 => ("ip", Operator::IsNot, "192.0.2.0/24"),
            _ => ("state", Operator::IsNot, text.as_str()),
        };
        let field = Field::named(field).unwrap();
        Query::Is(Condition::new(field, operator, value, &time).unwrap())
    });
    let leaf = prop_oneof![word, condition];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let list = proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            list.clone().prop_map(Query::All),
            list.prop_map(Query::Any),
            inner.prop_map(|query| Query::Not(Box::new(query))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(query in queries()) {
        let printed = query.to_string();
        prop_assert_eq!(parse(&printed), Ok(query), "{}", printed);
    }

    #[test]
    fn no_text_can_panic(text in any::<String>(), words in any::<Vec<u8>>()) {
        match parse(&text) {
            Ok(query) => {
                let _ = query.is_true_of(&record(), &words);
                prop_assert_eq!(parse(&query.to_string()), Ok(query));
            }
            Err(error) => drop(error.to_string()),
        }
    }

    #[test]
    fn texts_of_its_own_signs_cannot_panic(text in "[a-c \"'()=~<>!\\\\andortfm ]{0,24}") {
        if let Ok(query) = parse(&text) {
            prop_assert_eq!(parse(&query.to_string()), Ok(query));
        }
    }
}
