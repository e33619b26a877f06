//! The settings of uploads.

use std::{str::FromStr, time::Duration};

use shared::s3_uri::S3Uri;

/// The settings of uploads.
#[derive(Clone, Debug)]
pub struct UploadSettings {
    /// The bucket and the prefix of objects.
    pub to: S3Uri,
    /// The region of the bucket.
    pub region: String,
    /// The endpoint of the store, if it is not that of the region.
    pub endpoint_url: Option<String>,
    /// True when the bucket is in the path, not in the host name.
    pub path_style: bool,
    /// The storage class of objects.
    pub storage_class: Option<Class>,
    /// The server-side encryption of objects.
    pub encryption: Option<Encryption>,
    /// The tags of objects.
    pub tags: Tags,
    /// The most concurrent requests.
    pub concurrency: usize,
    /// True when the tables are uploaded at the end of a run.
    pub with_tables: bool,
    /// The treatment of files after their upload.
    pub cleanup: Cleanup,
    /// The most bytes that wait for a failing store.
    pub spool_max_bytes: u64,
    /// True when the run checks at its start whether objects can be put.
    pub checks: bool,
    /// True when an object may replace that of another call.
    pub overwrite: bool,
    /// The time that an upload may take, in addition to a time that depends on its length.
    pub deadline: Duration,
}

/// When the local file of a call that was to be uploaded is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Cleanup {
    /// Deleted when the store has confirmed the object.
    Uploaded,
    /// Deleted even if the upload failed, as the original program does.
    Always,
    /// Never deleted.
    Never,
}

/// A storage class of the S3 API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class(String);

/// S3 API reference, "PutObject", `x-amz-storage-class`.
pub(super) const CLASSES: [&str; 15] = [
    "AWS_BACKUP_LOW_COST_WARM",
    "AWS_BACKUP_WARM",
    "DEEP_ARCHIVE",
    "EXPRESS_ONEZONE",
    "FSX_ONTAP",
    "FSX_OPENZFS",
    "GLACIER",
    "GLACIER_IR",
    "INTELLIGENT_TIERING",
    "ONEZONE_IA",
    "OUTPOSTS",
    "REDUCED_REDUNDANCY",
    "SNOW",
    "STANDARD",
    "STANDARD_IA",
];

impl Class {
    /// The name in the S3 API.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if CLASSES.contains(&text) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{text}` is not a storage class; the classes are {}",
            CLASSES.join(", ")
        ))
    }
}

/// Server-side encryption of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of the store.
    Aes256,
    /// With a key of the key management service; `None` selects its default key.
    Kms(Option<String>),
}

impl FromStr for Encryption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("aws:kms:")) {
            ("AES256", _) => Ok(Self::Aes256),
            ("aws:kms", _) => Ok(Self::Kms(None)),
            (_, Some(key_id)) if !key_id.is_empty() => Ok(Self::Kms(Some(key_id.to_owned()))),
            _ => Err(format!(
                "`{text}` is not an encryption; write AES256, aws:kms, or aws:kms:KEY with the id or the ARN of a key"
            )),
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
    /// The keys and values.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

impl FromStr for Tags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut tags: Vec<(String, String)> = Vec::new();
        for tag in text.split(',').filter(|tag| !tag.trim().is_empty()) {
            let advice = "write KEY=VALUE, several separated by commas";
            let (key, value) = tag
                .split_once('=')
                .ok_or_else(|| format!("`{tag}` is not a tag; {advice}"))?;
            let (key, value) = (key.trim(), value.trim());
            if key.is_empty() {
                return Err(format!("`{tag}` has no key; {advice}"));
            }
            if key.chars().count() > MAX_TAG_LENS.0 || value.chars().count() > MAX_TAG_LENS.1 {
                return Err(format!(
                    "`{tag}` is too long; a key has at most 128 characters, a value 256"
                ));
            }
            if tags.iter().any(|(other, _)| other == key) {
                return Err(format!("the tag `{key}` is given twice"));
            }
            tags.push((key.to_owned(), value.to_owned()));
        }
        if tags.len() > MAX_TAGS {
            return Err(format!(
                "{} are too many tags; an object has at most {MAX_TAGS}",
                tags.len()
            ));
        }
        Ok(Self(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_classes() {
        assert_eq!(
            "STANDARD_IA".parse::<Class>().unwrap().name(),
            "STANDARD_IA"
        );
        for text in ["", "standard", "COLD"] {
            assert!(
                text.parse::<Class>().unwrap_err().contains("GLACIER"),
                "{text}"
            );
        }
    }

    #[test]
    fn encryptions() {
        let key = "arn:aws:kms:eu-west-1:1:key/2";
        assert_eq!("AES256".parse(), Ok(Encryption::Aes256));
        assert_eq!("aws:kms".parse(), Ok(Encryption::Kms(None)));
        assert_eq!(
            format!("aws:kms:{key}").parse(),
            Ok(Encryption::Kms(Some(key.to_owned())))
        );
        for text in ["", "aes256", "aws:kms:", "kms"] {
            assert!(
                text.parse::<Encryption>().unwrap_err().contains("AES256"),
                "{text}"
            );
        }
    }

    #[test]
    fn tags() {
        let pairs = |text: &str| text.parse::<Tags>().unwrap().0;
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs(""), []);
        assert_eq!(
            pairs("site=Köln west, team=a&b=c"),
            [pair("site", "Köln west"), pair("team", "a&b=c")]
        );
        assert_eq!(pairs("empty="), [pair("empty", "")]);
        for (text, why) in [("a", "not a tag"), ("=b", "no key"), ("a=1,a=2", "twice")] {
            assert!(text.parse::<Tags>().unwrap_err().contains(why), "{text}");
        }
        let many: Vec<String> = (0..11).map(|n| format!("{n}=x")).collect();
        assert!(
            many.join(",")
                .parse::<Tags>()
                .unwrap_err()
                .contains("too many")
        );
        assert!(
            format!("a={}", "x".repeat(257))
                .parse::<Tags>()
                .unwrap_err()
                .contains("too long")
        );
    }
}
