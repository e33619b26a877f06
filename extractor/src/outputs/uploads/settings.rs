//! What the user wants of uploads.

use std::{str::FromStr, time::Duration};

use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use shared::s3_uri::S3Uri;

/// What the user wants of uploads.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where objects go.
    pub to: S3Uri,
    /// The region of the bucket.
    pub region: String,
    /// The store, if it is not that of the region.
    pub endpoint_url: Option<String>,
    /// Whether the bucket is named in the path, not in the host's name.
    pub path_style: bool,
    /// The objects' class.
    pub storage_class: Option<Class>,
    /// How the store encrypts them.
    pub encryption: Option<Encryption>,
    /// The objects' tags.
    pub tags: Tags,
    /// How many requests are under way at once, at most.
    pub concurrency: usize,
    /// Whether the tables are uploaded when a run ends.
    pub with_tables: bool,
    /// What becomes of the files.
    pub cleanup: Cleanup,
    /// How many bytes may wait for a store that fails.
    pub spool_max_bytes: u64,
    /// Whether it is tried at the start if objects can be put.
    pub checks: bool,
    /// Whether an object may replace that of another call.
    pub overwrite: bool,
    /// How long an object may take, but for its length.
    pub deadline: Duration,
}

impl Settings {
    pub(super) fn class(&self) -> Option<StorageClass> {
        self.storage_class.clone().map(|Class(class)| class)
    }

    pub(super) fn encryption_kind(&self) -> Option<ServerSideEncryption> {
        self.encryption.as_ref().map(|encryption| encryption.kind.clone())
    }

    pub(super) fn key_id(&self) -> Option<String> {
        self.encryption.as_ref()?.key_id.clone()
    }
}

/// What becomes of a file that was to be uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Cleanup {
    /// Deleted when the store has confirmed the object.
    Uploaded,
    /// Deleted whatever became of the upload.
    Always,
    /// Kept.
    Never,
}

/// A storage class that the S3 API knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class(pub(super) StorageClass);

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if StorageClass::values().contains(&text) {
            return Ok(Self(StorageClass::from(text)));
        }
        Err(format!("`{text}` is no storage class; there are {}", StorageClass::values().join(", ")))
    }
}

/// How a store encrypts objects, and with which key if not with its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    pub(super) kind: ServerSideEncryption,
    pub(super) key_id: Option<String>,
}

impl FromStr for Encryption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of = |kind, key_id: Option<&str>| Ok(Self { kind, key_id: key_id.map(str::to_owned) });
        match (text, text.strip_prefix("aws:kms:")) {
            ("AES256", _) => of(ServerSideEncryption::Aes256, None),
            ("aws:kms", _) => of(ServerSideEncryption::AwsKms, None),
            (_, Some(key_id)) if !key_id.is_empty() => of(ServerSideEncryption::AwsKms, Some(key_id)),
            _ => Err(format!("`{text}` is no encryption; write AES256, aws:kms, or aws:kms:KEY with the id or the ARN of a key")),
        }
    }
}

/// Tags of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<(String, String)>);

/// S3 user guide, "Categorizing your objects using tags".
const MAX_TAGS: usize = 10;
const MAX_TAG_LENS: (usize, usize) = (128, 256);

impl Tags {
    /// As the header of a request has them.
    pub(super) fn header(&self) -> Option<String> {
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let tags: Vec<String> = self.0.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
        (!tags.is_empty()).then(|| tags.join("&"))
    }
}

impl FromStr for Tags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut tags: Vec<(String, String)> = Vec::new();
        for tag in text.split(',').filter(|tag| !tag.trim().is_empty()) {
            let advice = "write KEY=VALUE, several separated by commas";
            let (key, value) = tag.split_once('=').ok_or_else(|| format!("`{tag}` is no tag; {advice}"))?;
            let (key, value) = (key.trim(), value.trim());
            if key.is_empty() {
                return Err(format!("`{tag}` has no key; {advice}"));
            }
            if key.chars().count() > MAX_TAG_LENS.0 || value.chars().count() > MAX_TAG_LENS.1 {
                return Err(format!("`{tag}` is too long; a key has at most 128 characters, a value 256"));
            }
            if tags.iter().any(|(other, _)| other == key) {
                return Err(format!("the tag `{key}` is given twice"));
            }
            tags.push((key.to_owned(), value.to_owned()));
        }
        if tags.len() > MAX_TAGS {
            return Err(format!("{} are too many tags; an object has at most {MAX_TAGS}", tags.len()));
        }
        Ok(Self(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_classes() {
        assert_eq!("STANDARD_IA".parse::<Class>().unwrap().0, StorageClass::StandardIa);
        for text in ["", "standard", "COLD"] {
            assert!(text.parse::<Class>().unwrap_err().contains("GLACIER"), "{text}");
        }
    }

    #[test]
    fn encryptions() {
        let key = |text: &str| text.parse::<Encryption>().unwrap().key_id;
        assert_eq!("AES256".parse::<Encryption>().unwrap().kind, ServerSideEncryption::Aes256);
        assert_eq!(key("aws:kms"), None);
        assert_eq!(key("aws:kms:arn:aws:kms:eu-west-1:1:key/2").as_deref(), Some("arn:aws:kms:eu-west-1:1:key/2"));
        for text in ["", "aes256", "aws:kms:", "kms"] {
            assert!(text.parse::<Encryption>().unwrap_err().contains("AES256"), "{text}");
        }
    }

    #[test]
    fn tags() {
        let header = |text: &str| text.parse::<Tags>().unwrap().header();
        assert_eq!(header(""), None);
        assert_eq!(header("site=Köln west, team=a&b=c").as_deref(), Some("site=K%C3%B6ln%20west&team=a%26b%3Dc"));
        assert_eq!(header("empty=").as_deref(), Some("empty="));
        for (text, why) in [("a", "no tag"), ("=b", "no key"), ("a=1,a=2", "twice")] {
            assert!(text.parse::<Tags>().unwrap_err().contains(why), "{text}");
        }
        let many: Vec<String> = (0..11).map(|n| format!("{n}=x")).collect();
        assert!(many.join(",").parse::<Tags>().unwrap_err().contains("too many"));
        assert!(format!("a={}", "x".repeat(257)).parse::<Tags>().unwrap_err().contains("too long"));
    }
}
