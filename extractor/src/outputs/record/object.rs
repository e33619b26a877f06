//! An object of JSON that is put together.

use std::fmt::Display;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Number, Value};

/// An object, whose members keep their order.
#[derive(Default)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub(super) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Puts a value that may not exist.
    pub(super) fn maybe(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Puts a decimal number with the digits that it shows.
    pub(super) fn number(&mut self, name: &str, number: impl Display) {
        let number = number.to_string().parse().ok();
        let number = number.and_then(Number::from_f64);
        self.maybe(name, number.map(Value::Number));
    }

    /// The same for a number that may not exist.
    pub(super) fn maybe_number(&mut self, name: &str, number: Option<impl Display>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    /// Puts text off the wire. If it is no UTF-8, invalid bytes are U+FFFD, and another member has
    /// the exact bytes.
    pub(super) fn bytes(&mut self, name: &str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.put(name, String::from_utf8_lossy(value));
        if std::str::from_utf8(value).is_err() {
            self.put(&exact(name), BASE64_STANDARD.encode(value));
        }
    }

    /// The same for a list of texts; the other member has the exact bytes of all.
    pub(super) fn list_of_bytes<'b>(
        &mut self,
        name: &str,
        values: impl Iterator<Item = &'b [u8]> + Clone,
    ) {
        let texts: Vec<_> = values.clone().map(String::from_utf8_lossy).collect();
        self.put(name, texts);
        if values
            .clone()
            .any(|value| std::str::from_utf8(value).is_err())
        {
            let exact_values: Vec<_> = values.map(|value| BASE64_STANDARD.encode(value)).collect();
            self.put(&exact(name), exact_values);
        }
    }
}

/// The name of the member with the exact bytes.
fn exact(name: &str) -> String {
    format!("{name}_b64")
}

/// The exact bytes of such a member; none if it is not in this form.
pub(in crate::outputs) fn from_base64(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_exist() {
        let mut object = Object::default();
        object.maybe("absent", None::<u64>);
        object.number("ms", "20.10");
        object.number("none", "");
        object.bytes("a", Some(b"J\xc3\xb6rg\n=1"));
        object.bytes("b", Some(b"J\xf6rg"));
        object.list_of_bytes("c", [&b"x"[..], b"\xff"].into_iter());
        assert_eq!(
            object.into_value().to_string(),
            r#"{"ms":20.1,"a":"Jörg\n=1","b":"J�rg","b_b64":"SvZyZw==","c":["x","�"],"c_b64":["eA==","/w=="]}"#
        );
        assert_eq!(from_base64("SvZyZw=="), b"J\xf6rg");
        assert_eq!(from_base64("?"), b"");
    }
}
