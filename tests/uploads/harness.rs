//! Tests the store and the proxy themselves with the AWS SDK, so that other tests can rely on them.

use std::time::{Duration, Instant};

use aws_sdk_s3::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    error::ProvideErrorMetadata,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use tokio::runtime::Runtime;

use super::{
    proxy::{Answer, Fault, Operation, Proxy, Rule},
    store::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Store},
};

struct Asker {
    runtime: Runtime,
    client: Client,
}

impl Asker {
    fn new(proxy: &Proxy, secret: &str) -> Self {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new(REGION))
            .endpoint_url(proxy.url())
            .force_path_style(true)
            .retry_config(RetryConfig::disabled())
            .credentials_provider(Credentials::new(ACCESS_KEY, secret, None, None, "test"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            client: Client::from_conf(config.build()),
        }
    }

    /// Returns the checksum that the store reports, or the error's code.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<String, String> {
        let put = self
            .client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Crc32);
        let put = put.body(ByteStream::from(bytes.to_vec())).send();
        let deadline = async { tokio::time::timeout(Duration::from_secs(2), put).await };
        match self.runtime.block_on(deadline) {
            Err(_) => Err("time".to_owned()),
            Ok(Err(error)) => Err(error.code().unwrap_or("connection").to_owned()),
            Ok(Ok(put)) => Ok(put.checksum_crc32().unwrap_or("none").to_owned()),
        }
    }

    fn length(&self, key: &str) -> Result<i64, u16> {
        let head = self.client.head_object().bucket(BUCKET).key(key).send();
        let head = self
            .runtime
            .block_on(head)
            .map_err(|error| error.raw_response().unwrap().status().as_u16())?;
        Ok(head.content_length().unwrap())
    }

    fn put_in_parts(&self, key: &str, parts: &[Vec<u8>]) {
        let client = &self.client;
        self.runtime.block_on(async {
            let id = client
                .create_multipart_upload()
                .bucket(BUCKET)
                .key(key)
                .send()
                .await
                .unwrap();
            let id = id.upload_id().unwrap();
            let mut done = CompletedMultipartUpload::builder();
            for (number, part) in (1..).zip(parts) {
                let put = client
                    .upload_part()
                    .bucket(BUCKET)
                    .key(key)
                    .upload_id(id)
                    .part_number(number);
                let put = put
                    .body(ByteStream::from(part.clone()))
                    .send()
                    .await
                    .unwrap();
                done = done.parts(
                    CompletedPart::builder()
                        .part_number(number)
                        .e_tag(put.e_tag().unwrap())
                        .build(),
                );
            }
            let complete = client
                .complete_multipart_upload()
                .bucket(BUCKET)
                .key(key)
                .upload_id(id);
            complete
                .multipart_upload(done.build())
                .send()
                .await
                .unwrap();
        });
    }
}

fn shop() -> (Store, Proxy, Asker) {
    let store = Store::new();
    let proxy = Proxy::new(store.address);
    let asker = Asker::new(&proxy, SECRET_KEY);
    (store, proxy, asker)
}

#[test]
fn an_object_is_a_file_of_the_store() {
    let (store, proxy, asker) = shop();
    let bytes = vec![7; 100_000];
    assert_eq!(asker.put("a/b c.pcap", &bytes), Ok("O3HfiA==".to_owned()));
    assert_eq!(
        store.under("a/").into_iter().collect::<Vec<_>>(),
        [("b c.pcap".to_owned(), bytes.clone())]
    );
    assert_eq!(asker.length("a/b c.pcap"), Ok(100_000));
    assert_eq!(asker.length("a/c"), Err(404));
    let requests = proxy.requests();
    assert_eq!(
        requests
            .iter()
            .map(|request| request.operation)
            .collect::<Vec<_>>(),
        [Operation::Put, Operation::Head, Operation::Head]
    );
    assert_eq!(
        (
            requests[0].status,
            requests[0].bucket.as_str(),
            requests[0].key.as_str()
        ),
        (Some(200), BUCKET, "a/b%20c.pcap")
    );
    assert_eq!(proxy.connections(), 1, "connections are used again");
}

#[test]
fn a_large_object_in_parts() {
    let (store, proxy, asker) = shop();
    let parts = [vec![1; 5 << 20], vec![2; 1 << 20]];
    asker.put_in_parts("large", &parts);
    assert!(store.objects()["large"] == parts.concat());
    assert_eq!(store.broken_off(), 0);
    for (operation, count) in [
        (Operation::Create, 1),
        (Operation::Part, 2),
        (Operation::Complete, 1),
    ] {
        assert_eq!(proxy.requests_for(operation).len(), count, "{operation:?}");
    }
}

#[test]
fn a_wrong_secret_is_refused() {
    let (store, proxy, _) = shop();
    assert_eq!(
        Asker::new(&proxy, "wrong").put("a", b"bytes"),
        Err("SignatureDoesNotMatch".to_owned())
    );
    assert!(store.objects().is_empty());
}

#[test]
fn each_fault_is_one() {
    let (store, proxy, asker) = shop();
    let bytes = vec![7; 300_000];
    let mut told = Vec::new();
    for (key, fault) in [
        ("0", Fault::Answered(Answer::SLOW_DOWN)),
        ("1", Fault::Cut),
        ("2", Fault::CutAfterwards),
        ("3", Fault::Stalled),
        ("4", Fault::Unread),
        ("5", Fault::Misheard),
        ("6", Fault::Lost),
    ] {
        proxy.rule(Rule::new(fault).on(Operation::Put).times(1));
        told.push((
            key,
            asker.put(key, &bytes),
            store.objects().contains_key(key),
        ));
    }
    let error = |what: &str| Err(what.to_owned());
    let wrong = Ok("////8A==".to_owned());
    assert_eq!(
        told,
        [
            ("0", error("SlowDown"), false),
            ("1", error("connection"), false),
            ("2", error("connection"), true),
            ("3", error("time"), false),
            ("4", error("time"), false),
            ("5", wrong.clone(), true),
            ("6", wrong, false),
        ]
    );
    assert_eq!(
        asker.put("7", &bytes).map(|checksum| checksum.len()),
        Ok(8),
        "all is well again"
    );
}

#[test]
fn slow_is_slow_and_late_is_late() {
    let (_store, proxy, asker) = shop();
    for fault in [
        Fault::Slow(100_000),
        Fault::Late(Duration::from_millis(500)),
    ] {
        proxy.rule(Rule::new(fault.clone()).times(1));
        let begun = Instant::now();
        asker.put("a", &vec![7; 50_000]).unwrap();
        assert!(begun.elapsed() > Duration::from_millis(450), "{fault:?}");
    }
}

#[test]
fn rules_choose() {
    let (_store, proxy, asker) = shop();
    proxy.rule(
        Rule::answer(Answer::ACCESS_DENIED)
            .on(Operation::Put)
            .of("b")
            .after(1)
            .times(1),
    );
    let told: Vec<bool> = ["a", "a", "b", "a", "b", "b"]
        .iter()
        .map(|key| asker.put(key, b"bytes").is_ok())
        .collect();
    assert_eq!(told, [true, true, true, true, false, true]);
    assert_eq!(
        proxy.puts().into_iter().collect::<Vec<_>>(),
        [("a".to_owned(), 3), ("b".to_owned(), 2)]
    );
    proxy.rule(Rule::answer(Answer::ACCESS_DENIED));
    assert_eq!(asker.length("a"), Err(403));
    proxy.heal();
    assert_eq!(asker.length("a"), Ok(5));
}

#[test]
fn a_closed_proxy_refuses_until_it_opens() {
    let store = Store::new();
    let mut proxy = Proxy::closed(store.address);
    let asker = Asker::new(&proxy, SECRET_KEY);
    assert_eq!(asker.put("a", b"bytes"), Err("connection".to_owned()));
    proxy.open();
    assert!(asker.put("a", b"bytes").is_ok());
}
