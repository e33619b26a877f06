//! The store: one file becomes one object.
#![allow(clippy::disallowed_methods, reason = "a door: the S3 store, and the files that go there")]

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
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
    config::{ProvideCredentials, Region, SharedCredentialsProvider, retry::RetryConfig, timeout::TimeoutConfig},
    operation::{head_object::HeadObjectOutput, put_object::builders::PutObjectFluentBuilder},
    primitives::{ByteStream, SdkBody},
    types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart},
};
use aws_smithy_http_client::tls;
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use shared::s3_uri::S3Uri;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet, spawn_blocking},
    time::timeout,
};

use super::{
    Settings,
    trouble::{Place, Trouble, causes},
};

/// What a capture is said to be (IANA media types).
const CAPTURE: &str = "application/vnd.tcpdump.pcap";
/// RFC 4180, section 3.
const TABLE: &str = "text/csv";

/// Up to this length an object is sent in one piece, in bytes.
const MAX_PIECE: u64 = 16 << 20;

/// Longer ones go in parts of this length, or of a longer one where that made too many of them.
const PART: u64 = 8 << 20;

/// No object may have more (S3 user guide, "Amazon S3 multipart upload limits").
const MAX_PARTS: u64 = 10_000;

/// So much is in memory at once, in KiB.
const MAX_IN_MEMORY: u32 = 64 << 10;

/// A link that does not do this is of no use, in bytes a second.
const SLOWEST: u64 = 64 << 10;

/// How often a request is tried; the SDK waits longer and longer between.
const ATTEMPTS: u32 = 5;

/// How often something is sent again because it did not arrive as it was sent.
const MAX_GARBLED: u32 = 3;

/// How long a store has to answer to what has no content.
const SHORT: Duration = Duration::from_secs(15);

/// The metadata in which an object has the SHA-256 of its content.
const DIGEST: &str = "sha256";

/// The name of the object that shows whether there can be any.
const CHECK: &str = ".sip-call-extractor-check";

/// A store that is to be written to.
#[derive(Debug)]
pub(super) struct Store {
    client: Client,
    credentials: Option<SharedCredentialsProvider>,
    settings: Settings,
    /// Taken before `memory`, by everybody.
    requests: Arc<Semaphore>,
    /// See [`MAX_IN_MEMORY`].
    memory: Arc<Semaphore>,
    /// Whether credentials may ask what is there.
    may_ask: AtomicBool,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is an object now.
    Now,
    /// It was one before.
    Before,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    len: u64,
    crc32: u32,
    /// In hexadecimal digits.
    sha256: String,
}

/// A part of a file, or all of it, and its turn to be sent.
struct Piece {
    bytes: Vec<u8>,
    _turn: Vec<OwnedSemaphorePermit>,
}

impl Store {
    /// Makes a client. Nothing is asked of the store yet.
    pub(super) async fn new(settings: Settings) -> Self {
        let crypto = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new().tls_provider(crypto).build_https();
        let timeouts =
            TimeoutConfig::builder().connect_timeout(Duration::from_secs(5).min(settings.deadline.mul_f64(0.5))).build();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(settings.region.clone()))
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts)
            .load()
            .await;
        let mut s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(settings.path_style);
        s3.set_endpoint_url(settings.endpoint_url.clone().or_else(|| config.endpoint_url().map(str::to_owned)));
        Self {
            client: Client::from_conf(s3.build()),
            credentials: config.credentials_provider(),
            requests: Arc::new(Semaphore::new(settings.concurrency)),
            memory: Arc::new(Semaphore::new(MAX_IN_MEMORY as usize)),
            may_ask: AtomicBool::new(true),
            settings,
        }
    }

    /// Where a bucket is, for sentences.
    pub(super) fn place(&self, to: &S3Uri) -> Place {
        let region = self.settings.region.clone();
        let endpoint = self.settings.endpoint_url.clone().unwrap_or_else(|| format!("S3 in {region}"));
        Place { bucket: to.bucket.clone(), region, endpoint }
    }

    /// Tries whether objects can be put, with one that has no content.
    ///
    /// # Errors
    /// They cannot.
    pub(super) async fn check(&self, to: &S3Uri) -> Result<(), Trouble> {
        let key = to.key(CHECK);
        let put = self.put(to, &key).body(ByteStream::from_static(b"")).send();
        match timeout(SHORT.min(self.settings.deadline), put).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(self.explain(Trouble::of(&error)).await),
            Err(_) => return Err(self.explain(Trouble::TooSlow).await),
        }
        // Credentials that may only put leave it there: it has one name, and no content.
        let delete = self.client.delete_object().bucket(&to.bucket).key(&key).send();
        if let Ok(Err(error)) = timeout(SHORT, delete).await {
            tracing::debug!("{} stays: {}", to.of_object(CHECK), Trouble::of(&error).at(&self.place(to)));
        }
        Ok(())
    }

    /// Makes a file an object, unless it is one.
    ///
    /// # Errors
    /// It is none, or it is not known whether it is.
    pub(super) async fn send(self: &Arc<Self>, path: &Path, to: &S3Uri, name: &str, len: u64) -> Result<Sent, Trouble> {
        let key = to.key(name);
        let sent = match self.open(path).await {
            Ok((content, whole)) => {
                let sending = self.send_content(path, to, &key, &content, whole);
                timeout(self.time_for(content.len), sending).await.unwrap_or(Err(Trouble::TooSlow))
            }
            // A run that was killed may have removed it, after it had become an object.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.find(to, &key, len).await,
            Err(error) => Err(Trouble::Unreadable(error.to_string())),
        };
        match sent {
            Err(trouble) => Err(self.explain(trouble).await),
            sent => sent,
        }
    }

    async fn find(&self, to: &S3Uri, key: &str, len: u64) -> Result<Sent, Trouble> {
        let there = timeout(SHORT, self.head(to, key)).await.unwrap_or(Err(Trouble::TooSlow))?;
        match there.as_ref().and_then(length_of) {
            Some(there) if there == len => Ok(Sent::Before),
            None if !self.may_ask.load(Ordering::Relaxed) => {
                tracing::warn!(
                    "the file of s3://{}/{key} is gone; the credentials do not allow to ask whether the object is there",
                    to.bucket
                );
                Ok(Sent::Before)
            }
            _ => Err(Trouble::Missing),
        }
    }

    /// How long something of this length may take.
    fn time_for(&self, len: u64) -> Duration {
        self.settings.deadline.saturating_add(Duration::from_secs(len / SLOWEST))
    }

    /// A request that could not be made may lack credentials: those are asked for anew, which tells.
    async fn explain(&self, trouble: Trouble) -> Trouble {
        if !matches!(trouble, Trouble::Unreachable(_) | Trouble::TooSlow | Trouble::Refused(_)) {
            return trouble;
        }
        let Some(credentials) = &self.credentials else {
            return Trouble::NoCredentials("nothing is there to provide them".to_owned());
        };
        match timeout(SHORT, credentials.provide_credentials()).await {
            Ok(Err(error)) => Trouble::NoCredentials(causes(&error)),
            _ => trouble,
        }
    }

    async fn send_content(
        self: &Arc<Self>,
        path: &Path,
        to: &S3Uri,
        key: &str,
        content: &Content,
        whole: Option<Piece>,
    ) -> Result<Sent, Trouble> {
        if let Some(there) = self.head(to, key).await? {
            if content.is_that_of(&there) {
                return Ok(Sent::Before);
            }
            tracing::warn!("s3://{}/{key} is there with other content, and is replaced", to.bucket);
        }
        match whole {
            Some(piece) => self.send_whole(to, key, content, piece).await?,
            None => self.send_parts(path, to, key, content).await?,
        }
        Ok(Sent::Now)
    }

    /// What is known of an object. Nothing if there is none, or nobody says so: then sending it will tell why.
    async fn head(&self, to: &S3Uri, key: &str) -> Result<Option<HeadObjectOutput>, Trouble> {
        if !self.may_ask.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let head = self.client.head_object().bucket(&to.bucket).key(key).checksum_mode(ChecksumMode::Enabled).send().await;
        let error = match head {
            Ok(there) => return Ok(Some(there)),
            Err(error) => error,
        };
        match error.raw_response().map(|response| response.status().as_u16()) {
            None => return Err(Trouble::of(&error)),
            // Credentials that may only put are good enough.
            Some(403) => self.may_ask.store(false, Ordering::Relaxed),
            Some(_) => {}
        }
        Ok(None)
    }

    fn put(&self, to: &S3Uri, key: &str) -> PutObjectFluentBuilder {
        let (storage_class, encryption, key_id, tagging) = self.settings.of_objects();
        let put = self.client.put_object().bucket(&to.bucket).key(key).content_type(content_type(key));
        let put = put.set_storage_class(storage_class).set_tagging(tagging);
        put.set_server_side_encryption(encryption).set_ssekms_key_id(key_id)
    }

    async fn send_whole(&self, to: &S3Uri, key: &str, content: &Content, piece: Piece) -> Result<(), Trouble> {
        let Piece { bytes, _turn } = piece;
        let body = SdkBody::from(bytes);
        let mut tries = Tries::of(key);
        loop {
            let put = self.put(to, key).body(again(&body)).metadata(DIGEST, &content.sha256);
            let put = put.checksum_crc32(base64(content.crc32)).customize().config_override(self.attempts_for(content.len));
            let put = put.send().await.map_err(|error| Trouble::of(&error));
            let arrived = put.and_then(|put| has_arrived(put.checksum_crc32(), content.crc32));
            if !tries.is_to_go_again(&arrived) {
                return arrived;
            }
        }
    }

    /// Two attempts fit into the time that there is.
    fn attempts_for(&self, len: u64) -> aws_sdk_s3::config::Builder {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(self.time_for(len).mul_f64(0.5)).build();
        aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
    }

    async fn send_parts(self: &Arc<Self>, path: &Path, to: &S3Uri, key: &str, content: &Content) -> Result<(), Trouble> {
        let (storage_class, encryption, key_id, tagging) = self.settings.of_objects();
        let create = self.client.create_multipart_upload().bucket(&to.bucket).key(key).content_type(content_type(key));
        let create = create.set_storage_class(storage_class).set_tagging(tagging);
        let create = create.set_server_side_encryption(encryption).set_ssekms_key_id(key_id);
        let create = create.checksum_algorithm(ChecksumAlgorithm::Crc32).metadata(DIGEST, &content.sha256);
        let begun = create.send().await.map_err(|error| Trouble::of(&error))?;
        let id = begun.upload_id().ok_or_else(|| Trouble::Refused("an upload of several parts gets no name".to_owned()))?;
        let upload = Multipart { client: &self.client, to, key, id, is_complete: false };
        let parts = self.parts(&upload, path, content.len).await?;
        upload.complete(parts).await
    }

    /// Sends all parts, several at a time.
    async fn parts(self: &Arc<Self>, upload: &Multipart<'_>, path: &Path, len: u64) -> Result<Vec<CompletedPart>, Trouble> {
        let part_len = PART.max(len.div_ceil(MAX_PARTS));
        let mut sending = JoinSet::new();
        let mut parts = Vec::new();
        let mut from: u64 = 0;
        let mut number: i32 = 0;
        while from < len {
            let piece = self.piece(path.to_owned(), from, part_len.min(len.saturating_sub(from))).await;
            let piece = piece.map_err(|error| Trouble::Unreadable(error.to_string()))?;
            number = number.saturating_add(1);
            from = from.saturating_add(part_len);
            let (store, to, key, id) = (Arc::clone(self), upload.to.clone(), upload.key.to_owned(), upload.id.to_owned());
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

    async fn send_part(&self, to: &S3Uri, key: &str, id: &str, number: i32, piece: Piece) -> Result<CompletedPart, Trouble> {
        let Piece { bytes, _turn } = piece;
        let (len, crc32) = (bytes.len() as u64, crc32fast::hash(&bytes));
        let body = SdkBody::from(bytes);
        let mut tries = Tries::of(key);
        loop {
            let part = self.client.upload_part().bucket(&to.bucket).key(key).upload_id(id).part_number(number);
            let part = part.body(again(&body)).checksum_crc32(base64(crc32));
            let sent = part.customize().config_override(self.attempts_for(len)).send().await;
            let sent = sent.map_err(|error| Trouble::of(&error));
            let arrived = sent.and_then(|sent| has_arrived(sent.checksum_crc32(), crc32).map(|()| sent.e_tag));
            if !tries.is_to_go_again(&arrived) {
                let part = CompletedPart::builder().part_number(number).checksum_crc32(base64(crc32));
                return arrived.map(|e_tag| part.set_e_tag(e_tag).build());
            }
        }
    }

    /// Waits for its turn, and reads a part of a file.
    async fn piece(&self, path: PathBuf, from: u64, len: u64) -> io::Result<Piece> {
        let kib = u32::try_from(len / 1024).unwrap_or(u32::MAX).saturating_add(1).min(MAX_IN_MEMORY);
        let mut turn = Vec::new();
        // They are never closed.
        turn.extend(Arc::clone(&self.requests).acquire_owned().await);
        turn.extend(Arc::clone(&self.memory).acquire_many_owned(kib).await);
        let bytes = spawn_blocking(move || read_at(&path, from, len)).await.map_err(io::Error::other)??;
        Ok(Piece { bytes, _turn: turn })
    }

    /// What a file holds, and, if it is short, the bytes.
    async fn open(&self, path: &Path) -> io::Result<(Content, Option<Piece>)> {
        let len = fs::metadata(path)?.len();
        if len > MAX_PIECE {
            let path = path.to_owned();
            let content = spawn_blocking(move || Content::of(File::open(path)?)).await.map_err(io::Error::other)??;
            return Ok((content, None));
        }
        let piece = self.piece(path.to_owned(), 0, len).await?;
        Ok((Content::of(piece.bytes.as_slice())?, Some(piece)))
    }
}

impl Content {
    fn of(mut from: impl Read) -> io::Result<Self> {
        let (mut len, mut crc32, mut sha256): (u64, _, _) = (0, crc32fast::Hasher::new(), Sha256::new());
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
        let sha256 = sha256.finalize().0.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { len, crc32: crc32.finalize(), sha256 })
    }

    /// Whether an object holds the same, as far as the store knows.
    fn is_that_of(&self, there: &HeadObjectOutput) -> bool {
        let digest = there.metadata().and_then(|metadata| metadata.get(DIGEST));
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

/// An upload of several parts, which is given up unless it is completed.
struct Multipart<'a> {
    client: &'a Client,
    to: &'a S3Uri,
    key: &'a str,
    id: &'a str,
    is_complete: bool,
}

impl Multipart<'_> {
    async fn complete(mut self, parts: Vec<CompletedPart>) -> Result<(), Trouble> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.to.bucket).key(self.key).upload_id(self.id);
        complete.multipart_upload(parts).send().await.map_err(|error| Trouble::of(&error))?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for Multipart<'_> {
    /// The store would keep the parts, and charge for them.
    fn drop(&mut self) {
        if !self.is_complete {
            let abort = self.client.abort_multipart_upload().bucket(&self.to.bucket).key(self.key).upload_id(self.id);
            tokio::spawn(async move { timeout(SHORT, abort.send()).await });
        }
    }
}

fn joined(part: Result<Result<CompletedPart, Trouble>, JoinError>) -> Result<CompletedPart, Trouble> {
    part.unwrap_or_else(|error| Err(Trouble::Unreadable(error.to_string())))
}

fn read_at(path: &Path, from: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Bytes in memory can be sent as often as need be.
fn again(body: &SdkBody) -> ByteStream {
    ByteStream::new(body.try_clone().unwrap_or_else(SdkBody::taken))
}

/// A store that says nothing of a checksum has at least been told it.
fn has_arrived(said: Option<&str>, crc32: u32) -> Result<(), Trouble> {
    if said.is_none_or(|said| said == base64(crc32)) { Ok(()) } else { Err(Trouble::Garbled) }
}

/// How often something can still be sent that did not arrive as it was sent.
struct Tries<'a> {
    key: &'a str,
    left: u32,
}

impl<'a> Tries<'a> {
    fn of(key: &'a str) -> Self {
        Self { key, left: MAX_GARBLED }
    }

    fn is_to_go_again<T>(&mut self, arrived: &Result<T, Trouble>) -> bool {
        self.left = self.left.saturating_sub(1);
        let goes_again = self.left > 0 && matches!(arrived, Err(Trouble::Garbled));
        if goes_again {
            tracing::warn!("{} did not arrive as it was sent, and is sent again", self.key);
        }
        goes_again
    }
}

fn base64(crc32: u32) -> String {
    BASE64_STANDARD.encode(crc32.to_be_bytes())
}

fn length_of(there: &HeadObjectOutput) -> Option<u64> {
    u64::try_from(there.content_length()?).ok()
}

fn content_type(key: &str) -> &'static str {
    if key.ends_with(".csv") { TABLE } else { CAPTURE }
}
