//! The destination of uploads: `s3://bucket/prefix/`, with the host name in it if wanted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A bucket and a prefix of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct S3Uri {
    /// The bucket.
    pub bucket: String,
    /// The beginning of all object keys: empty, or ending with a slash.
    pub prefix: String,
}

/// The reason why a text is not such a URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{uri}` {why}; write s3://bucket/prefix/")]
pub struct S3UriError {
    uri: String,
    why: &'static str,
}

/// The placeholder for the host name.
const HOST_NAME: &str = "{hostname}";

/// The longest possible key, in bytes.
const MAX_KEY_LEN: usize = 1024;

/// The bytes of a key that are reserved for the file name.
const FILE_NAME_LEN: usize = 128;

impl S3Uri {
    /// Returns the URI with `{hostname}` replaced by the host's name up to its first dot.
    #[must_use]
    pub fn on_host(&self, name: &str) -> Self {
        let short = name.split('.').next().unwrap_or_default();
        Self {
            bucket: self.bucket.replace(HOST_NAME, short),
            prefix: self.prefix.replace(HOST_NAME, short),
        }
    }

    /// Returns the object key of a file.
    #[must_use]
    pub fn key(&self, file_name: &str) -> String {
        format!("{}{file_name}", self.prefix)
    }

    /// Returns the whole URI of a file's object.
    #[must_use]
    pub fn of_object(&self, file_name: &str) -> String {
        format!("{self}{file_name}")
    }
}

impl FromStr for S3Uri {
    type Err = S3UriError;

    /// Checks a bucket name only for characters that would make the URI ambiguous: stores have
    /// rules of their own.
    fn from_str(uri: &str) -> Result<Self, S3UriError> {
        let refused = |why| S3UriError {
            uri: uri.to_owned(),
            why,
        };
        let rest = uri
            .strip_prefix("s3://")
            .ok_or_else(|| refused("does not begin with s3://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let named = bucket.replace(HOST_NAME, "");
        if bucket.is_empty() {
            return Err(refused("names no bucket"));
        }
        if !named
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        {
            return Err(refused(
                "names a bucket with other characters than letters, digits, dots and hyphens",
            ));
        }
        if prefix.chars().any(char::is_control) {
            return Err(refused("has control characters in it"));
        }
        if prefix.starts_with('/') || prefix.contains("//") {
            return Err(refused("has two slashes, one after the other"));
        }
        if prefix.len().saturating_add(FILE_NAME_LEN) > MAX_KEY_LEN {
            return Err(refused("is too long: a key has at most 1024 bytes"));
        }
        let slash = if prefix.is_empty() || prefix.ends_with('/') {
            ""
        } else {
            "/"
        };
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: format!("{prefix}{slash}"),
        })
    }
}

impl fmt::Display for S3Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_lie_below_the_prefix() {
        for (uri, key, whole) in [
            ("s3://calls", "a.pcap", "s3://calls/a.pcap"),
            ("s3://calls/", "a.pcap", "s3://calls/a.pcap"),
            ("s3://calls/voip", "voip/a.pcap", "s3://calls/voip/a.pcap"),
            (
                "s3://calls/voip/2026/",
                "voip/2026/a.pcap",
                "s3://calls/voip/2026/a.pcap",
            ),
            (
                "s3://calls/Köln west/",
                "Köln west/a.pcap",
                "s3://calls/Köln west/a.pcap",
            ),
        ] {
            let uri: S3Uri = uri.parse().unwrap();
            assert_eq!(
                (uri.key("a.pcap").as_str(), uri.of_object("a.pcap").as_str()),
                (key, whole)
            );
        }
    }

    #[test]
    fn the_host_has_a_short_name() {
        let uri: S3Uri = "s3://calls-{hostname}/{hostname}/voip".parse().unwrap();
        assert_eq!(
            uri.on_host("probe7.example.com").to_string(),
            "s3://calls-probe7/probe7/voip/"
        );
        assert_eq!(
            uri.on_host("probe7").to_string(),
            "s3://calls-probe7/probe7/voip/"
        );
    }

    #[test]
    fn an_invalid_uri_is_explained() {
        for (uri, why) in [
            ("", "does not begin"),
            ("http://calls/", "does not begin"),
            ("S3://calls/", "does not begin"),
            ("s3://", "names no bucket"),
            ("s3:///voip/", "names no bucket"),
            ("s3://a b/", "other characters"),
            ("s3://calls//voip", "two slashes"),
            ("s3://calls/a\nb", "control characters"),
        ] {
            let error = uri.parse::<S3Uri>().unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("s3://bucket/prefix/"),
                "{uri}: {error}"
            );
        }
        assert!(
            format!("s3://calls/{}", "x".repeat(1000))
                .parse::<S3Uri>()
                .unwrap_err()
                .to_string()
                .contains("too long")
        );
    }
}
