//! Queries: whatever their text, they are read without a panic, and print to what reads as the same.

use sip_call_extractor::find::query::{Operator, Query};

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parse = |text: &str| {
        Query::parse(text, &|time: &str, _: Operator| {
            time.parse().map_err(|_| "no time".to_owned())
        })
    };
    match parse(&text) {
        Ok(query) => {
            let printed = query.to_string();
            assert_eq!(parse(&printed), Ok(query.clone()), "{printed}");
            // A call with all words may be asked for by any of its segments.
            if query.may_be_true_of(bytes) {
                assert!(query.may_be_true_in(bytes), "{printed}");
            }
        }
        Err(error) => assert!(error.to_string().lines().count() == 3, "{error}"),
    }
}
