//! Flags of uploads.

use std::time::Duration;

use clap::{Args, value_parser};
use nix::unistd::gethostname;
use shared::{
    s3_uri::S3Uri,
    units::{ByteSize, GoDuration},
};

use crate::outputs::uploads::{
    ARE_BUILT_IN, Class, Cleanup, Encryption, MISSING, Tags, UploadSettings,
};

/// The sentence for a store whose region is not known.
pub(super) const NO_REGION: &str = "no region: give --s3-region, such as --s3-region eu-central-1, or set AWS_REGION (any will do for most stores other than AWS)";

#[derive(Clone, Debug, Args)]
pub(super) struct UploadArguments {
    /// Upload each call's file to the place that --s3-uri names.
    #[arg(long, requires = "s3_uri", conflicts_with = "no_pcaps")]
    pub(super) auto_upload_to_s3: bool,

    /// Place of the calls' files in a store: s3://bucket/prefix/, in which {hostname} is the short
    /// name of this host.
    ///
    /// Without --auto-upload-to-s3, only the column s3_location is filled, for those who copy the
    /// files by other means.
    #[arg(long, value_name = "URI")]
    s3_uri: Option<S3Uri>,

    /// Region of the bucket, such as eu-central-1; without it, AWS_REGION, then the region of the
    /// AWS profile.
    #[arg(long, value_name = "REGION", value_parser = region)]
    pub(super) s3_region: Option<String>,

    /// Address of a store other than AWS, such as http://127.0.0.1:9000.
    #[arg(long, value_name = "URL", requires = "s3_uri", value_parser = url)]
    s3_endpoint_url: Option<String>,

    /// Name the bucket in the path of a request instead of in the host's name, as most stores other
    /// than AWS require.
    #[arg(long, requires = "s3_uri")]
    s3_path_style: bool,

    /// Storage class of the objects, such as STANDARD_IA; without it, the bucket's.
    #[arg(long, value_name = "CLASS", requires = "s3_uri")]
    s3_storage_class: Option<Class>,

    /// Encryption of the objects in the store: AES256, aws:kms, or aws:kms:KEY with the id or the
    /// ARN of a key; without it, the bucket's.
    #[arg(long, value_name = "HOW", requires = "s3_uri")]
    s3_sse: Option<Encryption>,

    /// Tags of the objects: KEY=VALUE, at most ten, separated by commas.
    #[arg(
        long,
        value_name = "TAGS",
        default_value = "",
        hide_default_value = true,
        requires = "s3_uri"
    )]
    s3_tags: Tags,

    /// Send at most this many requests to the store at once.
    #[arg(long, value_name = "N", default_value = "8", requires = "s3_uri", value_parser = value_parser!(u16).range(1..=256))]
    s3_concurrency: u16,

    /// Upload both tables, and calls.jsonl, when a run ends, under the same prefix, with the time of
    /// the run's start in their names.
    #[arg(long, requires = "auto_upload_to_s3")]
    pub(super) s3_upload_csv: bool,

    /// When to delete the local file of a call that was to be uploaded.
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "uploaded",
        requires = "auto_upload_to_s3"
    )]
    local_cleanup: Cleanup,

    /// Keep at most this much for a store that fails; beyond that, the oldest files are deleted.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "10GiB",
        requires = "auto_upload_to_s3"
    )]
    spool_max_bytes: ByteSize,

    /// Try whether objects can be stored, and exit: 0 if they can, 1 if not.
    ///
    /// For a command without captures; those in the file of --config are not read. A run that
    /// uploads tries it at its start, unless --no-s3-check is given.
    #[arg(long, requires = "s3_uri")]
    pub(super) s3_check: bool,

    /// Do not try at the start of a run whether objects can be stored.
    #[arg(long, conflicts_with = "s3_check")]
    no_s3_check: bool,

    /// How long an object may take, apart from its length.
    #[arg(long, value_name = "DURATION", default_value = "1m0s", hide = true)]
    s3_deadline: GoDuration,
}

/// Flags of a store that is read.
#[derive(Clone, Debug, Args)]
pub(super) struct StoreArguments {
    /// Region of the buckets, such as eu-central-1; without it, AWS_REGION, then the region of the
    /// AWS profile.
    #[arg(long, value_name = "REGION", value_parser = region)]
    s3_region: Option<String>,

    /// Address of a store other than AWS, such as http://127.0.0.1:9000.
    #[arg(long, value_name = "URL", value_parser = url)]
    s3_endpoint_url: Option<String>,

    /// Name the bucket in the path of a request instead of in the host's name, as most stores other
    /// than AWS require.
    #[arg(long)]
    s3_path_style: bool,

    /// Send at most this many requests to the store at once.
    #[arg(long, value_name = "N", default_value = "32", value_parser = value_parser!(u16).range(1..=256))]
    s3_concurrency: u16,

    /// How long an object may take, apart from its length.
    #[arg(long, value_name = "DURATION", default_value = "1m0s", hide = true)]
    s3_deadline: GoDuration,
}

impl StoreArguments {
    /// The settings for objects that are read in `place`. `usual_region` looks for a region
    /// elsewhere.
    pub(super) fn settings(
        &self,
        place: &S3Uri,
        usual_region: impl FnOnce() -> Option<String>,
    ) -> Result<UploadSettings, String> {
        if !ARE_BUILT_IN {
            return Err(MISSING.to_owned());
        }
        let found = || usual_region().and_then(|found| region(&found).ok());
        let region = self.s3_region.clone().or_else(found).ok_or(NO_REGION)?;
        Ok(UploadSettings {
            to: place.clone(),
            region,
            endpoint_url: self.s3_endpoint_url.clone(),
            path_style: self.s3_path_style,
            storage_class: None,
            encryption: None,
            tags: Tags::default(),
            concurrency: self.s3_concurrency.into(),
            with_tables: false,
            cleanup: Cleanup::Never,
            spool_max_bytes: 0,
            checks: false,
            overwrite: false,
            deadline: Duration::from_nanos(self.s3_deadline.as_ns()),
        })
    }
}

/// A place with the name of this host in it, if it asks for that.
pub(super) fn on_this_host(uri: &S3Uri) -> S3Uri {
    let host_name = gethostname().unwrap_or_default();
    uri.on_host(&host_name.to_string_lossy())
}

impl UploadArguments {
    /// True when the run asks something of a store. The other flags say how, or fill a column.
    pub(super) fn need_a_store(&self) -> bool {
        self.auto_upload_to_s3 || self.s3_check
    }

    pub(super) fn location(&self) -> Option<S3Uri> {
        self.s3_uri.as_ref().map(on_this_host)
    }

    /// The settings, if a place and a region are known.
    pub(super) fn settings(&self, overwrite: bool) -> Option<UploadSettings> {
        let (to, region) = self.location().zip(self.s3_region.clone())?;
        Some(UploadSettings {
            to,
            region,
            endpoint_url: self.s3_endpoint_url.clone(),
            path_style: self.s3_path_style,
            storage_class: self.s3_storage_class.clone(),
            encryption: self.s3_sse.clone(),
            tags: self.s3_tags.clone(),
            concurrency: self.s3_concurrency.into(),
            with_tables: self.s3_upload_csv,
            cleanup: self.local_cleanup,
            spool_max_bytes: self.spool_max_bytes.0,
            checks: !self.no_s3_check,
            overwrite,
            deadline: Duration::from_nanos(self.s3_deadline.as_ns()),
        })
    }
}

/// A rough check: the client of the store does the rest.
fn url(text: &str) -> Result<String, String> {
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'@';
    if host.is_empty() || host.starts_with('/') || !host.bytes().all(is_plain) {
        return Err("that is no URL of a store; write http://HOST:PORT or https://HOST, without a name or a password".to_owned());
    }
    Ok(text.to_owned())
}

/// The region becomes a part of the store's host name.
pub(super) fn region(text: &str) -> Result<String, String> {
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.is_empty() || !text.bytes().all(is_label) {
        return Err(format!(
            "`{text}` is no region; write one such as eu-central-1"
        ));
    }
    Ok(text.to_owned())
}
