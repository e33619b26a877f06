//! The store: makes an object from a file.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the S3 store, and the files that go there"
)]

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_config::BehaviorVersion;
use aws_sdk_s3::{
    Client,
    config::{
        ProvideCredentials, Region, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    operation::{head_object::HeadObjectOutput, put_object::builders::PutObjectFluentBuilder},
    primitives::{ByteStream, SdkBody},
    types::{
        ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
        ServerSideEncryption, StorageClass,
    },
};
use aws_smithy_http_client::{Connector, proxy::ProxyConfig, tls};
use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use shared::{files, s3_uri::S3Uri};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet, spawn_blocking},
    time::timeout,
};

use super::trouble::{BucketLocation, Trouble, causes};
use crate::outputs::uploads::settings::{Encryption, Tags, UploadSettings};

/// The IANA media type of a capture.
pub(super) const CAPTURE: &str = "application/vnd.tcpdump.pcap";
/// RFC 4180, section 3.
pub(super) const TABLE: &str = "text/csv";
/// The usual media type of an object of JSON a line; IANA has none.
pub(super) const RECORDS: &str = "application/x-ndjson";

/// The longest object that is sent in one piece, in bytes.
const MAX_PIECE: u64 = 16 << 20;

/// The length of a part of a longer object, unless that makes too many parts.
pub(super) const PART: u64 = 8 << 20;

/// The most parts of an object (S3 user guide, "Amazon S3 multipart upload limits").
const MAX_PARTS: u64 = 10_000;

/// The most memory for pieces in flight, in KiB.
const MAX_IN_MEMORY: u32 = 64 << 10;

/// The slowest link that is supported, in bytes per second.
const SLOWEST: u64 = 64 << 10;

/// The most attempts of a request; the SDK backs off between them.
pub(super) const ATTEMPTS: u32 = 5;

/// The most repetitions of a piece that arrived with another checksum.
const MAX_GARBLED: u32 = 3;

/// The time limit for a request without content, all attempts included.
const SHORT: Duration = Duration::from_secs(15);

/// The time limit for one of its attempts.
const ATTEMPT: Duration = Duration::from_secs(30);

/// The time limit for a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// The metadata key with the SHA-256 of an object's content.
const DIGEST: &str = "sha256";

/// The name of the object that the check puts.
const CHECK: &str = ".sip-call-extractor-check";

/// A store with the settings for its objects.
#[derive(Debug)]
pub(super) struct Store {
    client: Client,
    credentials: Option<SharedCredentialsProvider>,
    settings: UploadSettings,
    /// Every task acquires this before `memory`.
    requests: Arc<Semaphore>,
    /// See [`MAX_IN_MEMORY`].
    memory: Arc<Semaphore>,
    /// True when an object has been put.
    has_put: AtomicBool,
    /// True when a look-up was forbidden. See [`Store::may_ask`].
    is_forbidden: AtomicBool,
}

/// A file to be sent.
#[derive(Clone, Debug)]
pub(super) struct UploadOrder {
    pub(super) path: PathBuf,
    pub(super) to: S3Uri,
    /// The last part of the key.
    pub(super) name: String,
    /// The length of the file when it became due, in bytes.
    pub(super) len: u64,
    pub(super) content_type: &'static str,
    /// True when another object with this key may be replaced.
    pub(super) replaces: bool,
}

/// The result of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// True when the object existed before.
    pub(super) was_there: bool,
    /// The identity of the sent file, whatever has its name now.
    pub(super) file: Option<InodeId>,
}

/// The device and inode number of a file.
pub(super) type InodeId = (u64, u64);

/// The identity of the file at a path.
pub(super) fn file_at(path: &Path) -> io::Result<InodeId> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The length and the checksums of a file's content.
#[derive(Clone, Debug)]
struct FileChecksums {
    len: u64,
    crc32: u32,
    /// In hexadecimal digits.
    sha256: String,
}

/// A part of a file, or all of it, with its permits.
struct FilePart {
    bytes: Vec<u8>,
    _turn: Vec<OwnedSemaphorePermit>,
}

impl Store {
    /// Creates a client, without a request.
    pub(super) async fn new(settings: UploadSettings) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT.min(settings.deadline))
            .operation_attempt_timeout(ATTEMPT.min(settings.deadline))
            .build();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(settings.region.clone()))
            .http_client(http_client())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts)
            .load()
            .await;
        let mut s3 =
            aws_sdk_s3::config::Builder::from(&config).force_path_style(settings.path_style);
        if let Some(url) = &settings.endpoint_url {
            s3.set_endpoint_url(Some(url.clone()));
        }
        Self {
            client: Client::from_conf(s3.build()),
            credentials: config.credentials_provider(),
            requests: Arc::new(Semaphore::new(settings.concurrency)),
            memory: Arc::new(Semaphore::new(MAX_IN_MEMORY as usize)),
            has_put: AtomicBool::new(false),
            is_forbidden: AtomicBool::new(false),
            settings,
        }
    }

    /// The client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The location of a bucket, for messages.
    pub(super) fn location(&self, to: &S3Uri) -> BucketLocation {
        let region = self.settings.region.clone();
        let of_environment = || {
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
                .into_iter()
                .find_map(|name| env::var(name).ok())
        };
        let endpoint = self
            .settings
            .endpoint_url
            .clone()
            .or_else(of_environment)
            .unwrap_or_else(|| format!("S3 in {region}"));
        BucketLocation::new(&to.bucket, region, endpoint, self.settings.path_style)
    }

    /// Checks whether objects can be put, by an empty one.
    ///
    /// # Errors
    /// They cannot.
    pub(super) async fn check(&self, to: &S3Uri) -> Result<(), Trouble> {
        let key = to.key(CHECK);
        let twice = aws_sdk_s3::config::Builder::new()
            .retry_config(RetryConfig::standard().with_max_attempts(2));
        let put = self
            .put(to, &key, CAPTURE)
            .body(ByteStream::from_static(b""))
            .customize()
            .config_override(twice)
            .send();
        match timeout(SHORT.min(self.settings.deadline), put).await {
            Ok(Ok(_)) => self.has_put.store(true, Ordering::Relaxed),
            Ok(Err(error)) => return Err(self.explain(Trouble::of(&error)).await),
            Err(_) => return Err(self.explain(Trouble::TooSlow).await),
        }
        // If the credentials do not allow to delete it, it stays: always the same empty object.
        let delete = self
            .client
            .delete_object()
            .bucket(&to.bucket)
            .key(&key)
            .send();
        if let Ok(Err(error)) = timeout(SHORT, delete).await {
            tracing::debug!(
                "{} stays: {}",
                to.of_object(CHECK),
                Trouble::of(&error).at(&self.location(to))
            );
        }
        Ok(())
    }

    /// Puts a file as an object, unless that object exists.
    ///
    /// # Errors
    /// The object does not exist, or its existence is unknown.
    pub(super) async fn send(self: &Arc<Self>, order: &UploadOrder) -> Result<Sent, Trouble> {
        let sent = match self.open(&order.path).await {
            Ok((source, whole)) => self.send_content(order, &source, whole).await,
            // A killed run may have removed the file after its upload.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.find(order).await,
            Err(error) => Err(Trouble::Unreadable(error.to_string())),
        };
        match sent {
            Err(trouble) => Err(self.explain(trouble).await),
            sent => sent,
        }
    }

    async fn find(&self, order: &UploadOrder) -> Result<Sent, Trouble> {
        let sent = Ok(Sent {
            was_there: true,
            file: None,
        });
        match timeout(SHORT, self.head(order))
            .await
            .unwrap_or(Err(Trouble::TooSlow))
        {
            Ok(Some(there)) if length_of(&there) == Some(order.len) => sent,
            Ok(_) => Err(Trouble::Missing),
            Err(_) if self.may_only_put(&order.to).await => {
                tracing::warn!(
                    "{} is gone, and the credentials do not allow to look up whether {} exists",
                    order.path.display(),
                    order.to.of_object(&order.name)
                );
                sent
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// The time limit for this many bytes beside the concurrent uploads.
    pub(super) fn time_for(&self, len: u64) -> Duration {
        let bytes = len.saturating_mul(self.settings.concurrency as u64);
        self.settings
            .deadline
            .saturating_add(Duration::from_secs(bytes / SLOWEST))
    }

    /// A failed request may be due to missing credentials, so this asks for them again.
    pub(super) async fn explain(&self, trouble: Trouble) -> Trouble {
        if !matches!(
            trouble,
            Trouble::Unreachable(_) | Trouble::TooSlow | Trouble::Refused(_)
        ) {
            return trouble;
        }
        let Some(credentials) = &self.credentials else {
            return Trouble::NoCredentials("no source provides them".to_owned());
        };
        match timeout(SHORT, credentials.provide_credentials()).await {
            Ok(Err(error)) => Trouble::NoCredentials(causes(&error)),
            _ => trouble,
        }
    }

    async fn send_content(
        self: &Arc<Self>,
        order: &UploadOrder,
        source: &OpenFile,
        whole: Option<FilePart>,
    ) -> Result<Sent, Trouble> {
        let file = Some(source.id);
        match timeout(self.time_for(0), self.head(order))
            .await
            .unwrap_or(Err(Trouble::TooSlow))
        {
            Ok(Some(there)) if source.content.is_that_of(&there) => {
                return Ok(Sent {
                    was_there: true,
                    file,
                });
            }
            // An object without this program's digest does not belong to a call, or is incomplete;
            // it may be replaced.
            Ok(Some(there)) if digest_of(&there).is_some() && !order.replaces => {
                return Err(Trouble::Occupied);
            }
            Ok(Some(_)) => tracing::warn!(
                "{} exists with other content, and is replaced",
                order.to.of_object(&order.name)
            ),
            Err(trouble @ (Trouble::Unreachable(_) | Trouble::TooSlow)) => return Err(trouble),
            // Credentials that may not look up may still put; if not, the request says why.
            Ok(None) | Err(_) => {}
        }
        match whole {
            Some(piece) => {
                let sending = self.send_whole(order, &source.content, piece);
                timeout(self.time_for(source.content.len), sending)
                    .await
                    .unwrap_or(Err(Trouble::TooSlow))?;
            }
            None => self.send_parts(order, source).await?,
        }
        self.has_put.store(true, Ordering::Relaxed);
        Ok(Sent {
            was_there: false,
            file,
        })
    }

    /// The metadata of an object; `None` if it does not exist.
    async fn head(&self, order: &UploadOrder) -> Result<Option<HeadObjectOutput>, Trouble> {
        if !self.may_ask() {
            return Err(Trouble::AccessDenied("HEAD".to_owned()));
        }
        let head = self
            .client
            .head_object()
            .bucket(&order.to.bucket)
            .key(order.to.key(&order.name));
        let error = match head.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(there) => return Ok(Some(there)),
            Err(error) => error,
        };
        match error
            .raw_response()
            .map(|response| response.status().as_u16())
        {
            Some(404) => return Ok(None),
            Some(403) => self.is_forbidden.store(true, Ordering::Relaxed),
            _ => {}
        }
        Err(Trouble::of(&error))
    }

    /// Returns true if the credentials may put objects but not look them up. If no object has been
    /// put yet, the check object is tried.
    async fn may_only_put(&self, to: &S3Uri) -> bool {
        let is_forbidden = self.is_forbidden.load(Ordering::Relaxed);
        is_forbidden && (self.has_put.load(Ordering::Relaxed) || self.check(to).await.is_ok())
    }

    /// Returns false if look-ups are known to be forbidden. A `HEAD` has no error text, so a 403
    /// means that only if another request was allowed.
    fn may_ask(&self) -> bool {
        !(self.has_put.load(Ordering::Relaxed) && self.is_forbidden.load(Ordering::Relaxed))
    }

    fn put(&self, to: &S3Uri, key: &str, content_type: &str) -> PutObjectFluentBuilder {
        let settings = &self.settings;
        let put = self
            .client
            .put_object()
            .bucket(&to.bucket)
            .key(key)
            .content_type(content_type);
        let put = put
            .set_storage_class(class(settings))
            .set_tagging(header(&settings.tags));
        put.set_server_side_encryption(encryption(settings))
            .set_ssekms_key_id(key_id(settings))
    }

    async fn send_whole(
        &self,
        order: &UploadOrder,
        content: &FileChecksums,
        piece: FilePart,
    ) -> Result<(), Trouble> {
        let FilePart { bytes, _turn } = piece;
        let key = order.to.key(&order.name);
        let body = SdkBody::from(bytes);
        let mut tries = Tries::of(&key);
        loop {
            let put = self
                .put(&order.to, &key, order.content_type)
                .body(again(&body))
                .metadata(DIGEST, &content.sha256);
            let put = put
                .checksum_crc32(base64(content.crc32))
                .customize()
                .config_override(self.attempts_for(content.len));
            let put = put.send().await.map_err(|error| Trouble::of(&error));
            let arrived = put.and_then(|put| has_arrived(put.checksum_crc32(), content.crc32));
            if !tries.is_to_go_again(&arrived) {
                return arrived;
            }
        }
    }

    /// The client settings with which two attempts fit into the total time.
    fn attempts_for(&self, len: u64) -> aws_sdk_s3::config::Builder {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(self.time_for(len).mul_f64(0.5))
            .build();
        aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
    }

    async fn send_parts(
        self: &Arc<Self>,
        order: &UploadOrder,
        source: &OpenFile,
    ) -> Result<(), Trouble> {
        let settings = &self.settings;
        let (to, key) = (&order.to, order.to.key(&order.name));
        let create = self
            .client
            .create_multipart_upload()
            .bucket(&to.bucket)
            .key(&key)
            .content_type(order.content_type);
        let create = create
            .set_storage_class(class(settings))
            .set_tagging(header(&settings.tags));
        let create = create
            .set_server_side_encryption(encryption(settings))
            .set_ssekms_key_id(key_id(settings));
        let create = create
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .metadata(DIGEST, &source.content.sha256);
        let begun = create.send().await.map_err(|error| Trouble::of(&error))?;
        let id = begun.upload_id().ok_or_else(|| {
            Trouble::Refused("the store returns no id for a multipart upload".to_owned())
        })?;
        let len = source.content.len;
        let parts = timeout(self.time_for(len), self.parts(to, &key, id, source))
            .await
            .unwrap_or(Err(Trouble::TooSlow));
        let completed = match parts {
            Ok(parts) => self.complete(to, &key, id, parts, len).await,
            Err(trouble) => Err(trouble),
        };
        if completed.is_err() {
            // Otherwise the store would keep the parts, and charge for them.
            let abort = self
                .client
                .abort_multipart_upload()
                .bucket(&to.bucket)
                .key(&key)
                .upload_id(id);
            let _ = timeout(SHORT, abort.send()).await;
        }
        completed
    }

    /// Sends all parts, several at a time.
    async fn parts(
        self: &Arc<Self>,
        to: &S3Uri,
        key: &str,
        id: &str,
        source: &OpenFile,
    ) -> Result<Vec<CompletedPart>, Trouble> {
        let len = source.content.len;
        let part_len = PART.max(len.div_ceil(MAX_PARTS));
        let mut sending = JoinSet::new();
        let mut parts = Vec::new();
        let mut from: u64 = 0;
        let mut number: i32 = 0;
        while from < len {
            let turn = self.turn(part_len).await;
            let (file, part_len) = (
                Arc::clone(&source.file),
                part_len.min(len.saturating_sub(from)),
            );
            let bytes = spawn_blocking(move || read_at(&file, from, part_len))
                .await
                .map_err(io::Error::other)
                .flatten();
            let piece = FilePart {
                bytes: bytes.map_err(|error| Trouble::Unreadable(error.to_string()))?,
                _turn: turn,
            };
            number = number.saturating_add(1);
            from = from.saturating_add(part_len);
            let (store, to, key, id) =
                (Arc::clone(self), to.clone(), key.to_owned(), id.to_owned());
            sending.spawn(async move { store.send_part(&to, &key, &id, number, piece).await });
            while let Some(sent) = sending.try_join_next() {
                parts.push(joined(sent)?);
            }
        }
        while let Some(sent) = sending.join_next().await {
            parts.push(joined(sent)?);
        }
        parts.sort_by_key(CompletedPart::part_number);
        Ok(parts)
    }

    async fn complete(
        &self,
        to: &S3Uri,
        key: &str,
        id: &str,
        parts: Vec<CompletedPart>,
        len: u64,
    ) -> Result<(), Trouble> {
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let complete = self
            .client
            .complete_multipart_upload()
            .bucket(&to.bucket)
            .key(key)
            .upload_id(id)
            .multipart_upload(parts);
        // The store may have to copy the parts, which takes time.
        let complete = complete
            .customize()
            .config_override(self.attempts_for(len))
            .send();
        complete
            .await
            .map(|_| ())
            .map_err(|error| Trouble::of(&error))
    }

    async fn send_part(
        &self,
        to: &S3Uri,
        key: &str,
        id: &str,
        number: i32,
        piece: FilePart,
    ) -> Result<CompletedPart, Trouble> {
        let FilePart { bytes, _turn } = piece;
        let (len, crc32) = (bytes.len() as u64, crc32fast::hash(&bytes));
        let body = SdkBody::from(bytes);
        let mut tries = Tries::of(key);
        loop {
            let part = self
                .client
                .upload_part()
                .bucket(&to.bucket)
                .key(key)
                .upload_id(id)
                .part_number(number);
            let part = part.body(again(&body)).checksum_crc32(base64(crc32));
            let sent = part
                .customize()
                .config_override(self.attempts_for(len))
                .send()
                .await;
            let sent = sent.map_err(|error| Trouble::of(&error));
            let arrived = sent
                .and_then(|sent| has_arrived(sent.checksum_crc32(), crc32).map(|()| sent.e_tag));
            if !tries.is_to_go_again(&arrived) {
                let part = CompletedPart::builder()
                    .part_number(number)
                    .checksum_crc32(base64(crc32));
                return arrived.map(|e_tag| part.set_e_tag(e_tag).build());
            }
        }
    }

    /// Waits for a request slot, and for memory for this many bytes.
    pub(super) async fn turn(&self, len: u64) -> Vec<OwnedSemaphorePermit> {
        let kib = u32::try_from(len.div_ceil(1024))
            .unwrap_or(u32::MAX)
            .clamp(1, MAX_IN_MEMORY);
        let mut turn = Vec::new();
        // The semaphores are never closed.
        turn.extend(Arc::clone(&self.requests).acquire_owned().await);
        turn.extend(Arc::clone(&self.memory).acquire_many_owned(kib).await);
        turn
    }

    /// Opens a file and hashes its content. A short file is returned in memory.
    async fn open(&self, path: &Path) -> io::Result<(OpenFile, Option<FilePart>)> {
        let file = files::open(OpenOptions::new().read(true), path)?;
        let metadata = file.metadata()?;
        let (id, len) = ((metadata.dev(), metadata.ino()), metadata.len());
        if len > MAX_PIECE {
            let of = move || FileChecksums::of(&file).map(|content| (content, file));
            let (content, file) = spawn_blocking(of).await.map_err(io::Error::other)??;
            return Ok((
                OpenFile {
                    file: Arc::new(file),
                    id,
                    content,
                },
                None,
            ));
        }
        let turn = self.turn(len).await;
        let read = move || {
            let bytes = read_at(&file, 0, len)?;
            io::Result::Ok((FileChecksums::of(bytes.as_slice())?, bytes, file))
        };
        let (content, bytes, file) = spawn_blocking(read).await.map_err(io::Error::other)??;
        Ok((
            OpenFile {
                file: Arc::new(file),
                id,
                content,
            },
            Some(FilePart { bytes, _turn: turn }),
        ))
    }
}

/// An open file that is to be sent.
#[derive(Debug)]
struct OpenFile {
    /// The open file, which stays the same when its name is reused.
    file: Arc<File>,
    id: InodeId,
    content: FileChecksums,
}

/// TLS without C code, and through a proxy if the environment names one.
fn http_client() -> SharedHttpClient {
    let crypto = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.tls_provider(crypto.clone()).build()
    })
}

impl FileChecksums {
    fn of(mut from: impl Read) -> io::Result<Self> {
        let (mut len, mut crc32, mut sha256): (u64, _, _) =
            (0, crc32fast::Hasher::new(), Sha256::new());
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            len = len.saturating_add(read.len() as u64);
            crc32.update(read);
            sha256.update(read);
        }
        let sha256 = sha256
            .finalize()
            .0
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self {
            len,
            crc32: crc32.finalize(),
            sha256,
        })
    }

    /// Returns true if the object has the same content, as far as the store knows.
    fn is_that_of(&self, there: &HeadObjectOutput) -> bool {
        let digest = digest_of(there);
        let is_of_parts = there.checksum_type() == Some(&ChecksumType::Composite);
        let checksum = there.checksum_crc32().filter(|_| !is_of_parts);
        let is_same = match (digest, checksum) {
            (Some(digest), _) => *digest == self.sha256,
            (None, Some(checksum)) => checksum == base64(self.crc32),
            (None, None) => false,
        };
        is_same && length_of(there) == Some(self.len)
    }
}

fn joined(
    part: Result<Result<CompletedPart, Trouble>, JoinError>,
) -> Result<CompletedPart, Trouble> {
    part.unwrap_or_else(|error| Err(Trouble::Unreadable(error.to_string())))
}

fn read_at(file: &File, from: u64, len: u64) -> io::Result<Vec<u8>> {
    // The file has that many bytes, and each part has its share of memory.
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

/// A body from memory, which can be sent repeatedly.
fn again(body: &SdkBody) -> ByteStream {
    ByteStream::new(body.try_clone().unwrap_or_else(SdkBody::taken))
}

/// Compares the checksums. If the store returns none, it has at least received the one in the
/// request.
fn has_arrived(said: Option<&str>, crc32: u32) -> Result<(), Trouble> {
    if said.is_none_or(|said| said == base64(crc32)) {
        Ok(())
    } else {
        Err(Trouble::Garbled)
    }
}

/// The remaining repetitions for pieces that arrive with another checksum.
struct Tries<'a> {
    key: &'a str,
    left: u32,
}

impl<'a> Tries<'a> {
    fn of(key: &'a str) -> Self {
        Self {
            key,
            left: MAX_GARBLED,
        }
    }

    fn is_to_go_again<T>(&mut self, arrived: &Result<T, Trouble>) -> bool {
        self.left = self.left.saturating_sub(1);
        let goes_again = self.left > 0 && matches!(arrived, Err(Trouble::Garbled));
        if goes_again {
            tracing::warn!(
                "{} arrived with another checksum, and is sent again",
                self.key
            );
        }
        goes_again
    }
}

fn class(settings: &UploadSettings) -> Option<StorageClass> {
    settings
        .storage_class
        .as_ref()
        .map(|class| StorageClass::from(class.name()))
}

fn encryption(settings: &UploadSettings) -> Option<ServerSideEncryption> {
    settings
        .encryption
        .as_ref()
        .map(|encryption| match encryption {
            Encryption::Aes256 => ServerSideEncryption::Aes256,
            Encryption::Kms(_) => ServerSideEncryption::AwsKms,
        })
}

fn key_id(settings: &UploadSettings) -> Option<String> {
    match settings.encryption.as_ref()? {
        Encryption::Aes256 => None,
        Encryption::Kms(key_id) => key_id.clone(),
    }
}

/// The tags in the format of the request header.
fn header(tags: &Tags) -> Option<String> {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let tags: Vec<String> = tags
        .pairs()
        .iter()
        .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)))
        .collect();
    (!tags.is_empty()).then(|| tags.join("&"))
}

fn base64(crc32: u32) -> String {
    BASE64_STANDARD.encode(crc32.to_be_bytes())
}

fn length_of(there: &HeadObjectOutput) -> Option<u64> {
    u64::try_from(there.content_length()?).ok()
}

fn digest_of(there: &HeadObjectOutput) -> Option<&String> {
    there.metadata().and_then(|metadata| metadata.get(DIGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::uploads::settings::CLASSES;

    #[test]
    fn storage_classes_are_those_of_the_client() {
        assert_eq!(CLASSES, StorageClass::values());
    }

    #[test]
    fn tags_are_encoded() {
        let header = |text: &str| header(&text.parse().unwrap());
        assert_eq!(header(""), None);
        assert_eq!(
            header("site=Köln west, team=a&b=c").as_deref(),
            Some("site=K%C3%B6ln%20west&team=a%26b%3Dc")
        );
        assert_eq!(header("empty=").as_deref(), Some("empty="));
    }
}
