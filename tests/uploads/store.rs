//! A store that speaks S3 and checks signatures. Buckets are folders and objects are files in them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use support::desk::Files;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};

pub const BUCKET: &str = "calls";
pub const REGION: &str = "eu-central-1";
pub const ACCESS_KEY: &str = "AKIAEXAMPLEEXAMPLE00";
pub const SECRET_KEY: &str = "correct/horse+battery/staple";

/// A running store with a temporary folder.
pub struct Store {
    folder: TempDir,
    pub address: SocketAddr,
    _runtime: Runtime,
}

impl Store {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(folder.path().to_owned(), listener));
        Self {
            folder,
            address,
            _runtime: runtime,
        }
    }

    /// Returns the objects in the bucket, by key.
    pub fn objects(&self) -> Files {
        let mut objects = Files::new();
        collect(&self.bucket(), "", &mut objects);
        objects
    }

    /// Returns the objects under a prefix, by the rest of their keys.
    pub fn under(&self, prefix: &str) -> Files {
        let under =
            |(key, bytes): (String, Vec<u8>)| Some((key.strip_prefix(prefix)?.to_owned(), bytes));
        self.objects().into_iter().filter_map(under).collect()
    }

    /// Returns the path of an object, without its metadata.
    pub fn path(&self, key: &str) -> PathBuf {
        self.bucket().join(key)
    }

    /// Returns the number of multipart uploads that were neither completed nor aborted.
    pub fn broken_off(&self) -> usize {
        let names = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".upload-")).count()
    }

    /// Deletes an object's metadata, as if another program had put it.
    pub fn forget_of(&self, key: &str) {
        let name = |text: &str| {
            base64(text.as_bytes())
                .replace('+', "-")
                .replace('/', "_")
                .replace('=', "")
        };
        for what in ["metadata", "internal"] {
            let told = format!(".bucket-{}.object-{}.{what}.json", name(BUCKET), name(key));
            fs::remove_file(self.folder.path().join(told)).unwrap();
        }
    }

    fn bucket(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }
}

fn collect(folder: &Path, prefix: &str, objects: &mut Files) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(|entry| entry.unwrap()) {
        let key = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{key}/"), objects);
        } else if let Ok(bytes) = fs::read(entry.path()) {
            objects.insert(key, bytes);
        }
    }
}

/// Serves a folder. Creates the bucket if it is missing.
pub async fn serve(folder: PathBuf, listener: TcpListener) {
    fs::create_dir_all(folder.join(BUCKET)).unwrap();
    let mut service = S3ServiceBuilder::new(FileSystem::new(&folder).unwrap());
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    while let Ok((connection, _)) = listener.accept().await {
        let service = service.clone();
        // A client may close the connection at any time.
        tokio::spawn(async move {
            Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(connection), service)
                .await
        });
    }
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).map(|chunk| {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        let digit = |place: usize| {
            if place <= chunk.len() {
                DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char
            } else {
                '='
            }
        };
        (0..4).map(digit).collect::<String>()
    });
    digits.collect()
}
