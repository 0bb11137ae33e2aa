//! What local files and memory promise.

use bytes::Bytes;
use futures::TryStreamExt;

use super::*;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let location = format!("file://{}", folder.path().display());
    (folder, location)
}

async fn listed(storage: &Storage, folder: &str) -> Vec<String> {
    let mut files: Vec<String> =
        storage.list(folder).unwrap().map_ok(|f| f.location).try_collect().await.unwrap();
    files.sort();
    files
}

#[tokio::test]
async fn a_file_is_created_once_and_the_loser_changes_nothing() {
    let (_guard, root) = folder();
    for root in [root, "memory:///t".to_string()] {
        let storage = Storage::default();
        let file = format!("{root}/deep/er/v1.json");
        assert_eq!(storage.create(&file, bytes("first")).await.unwrap(), Created::New);
        assert_eq!(storage.create(&file, bytes("second")).await.unwrap(), Created::AlreadyThere);
        assert_eq!(storage.read(&file).await.unwrap(), "first");
        storage.write(&file, bytes("third")).await.unwrap();
        assert_eq!(storage.read(&file).await.unwrap(), "third");
        assert_eq!(listed(&storage, &root).await.len(), 1, "temporary files are gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_racing_creators_exactly_one_wins() {
    let (_guard, root) = folder();
    let storage = Storage::default();
    let file = format!("{root}/v1.json");
    let racers = (0..16).map(|i| {
        let (storage, file) = (storage.clone(), file.clone());
        tokio::spawn(async move { storage.create(&file, format!("{i}").into()).await.unwrap() })
    });
    let results = futures::future::join_all(racers).await;
    let won = results.into_iter().filter(|r| *r.as_ref().unwrap() == Created::New).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn names_are_taken_literally() {
    let (_guard, root) = folder();
    for root in [root, "memory:///t".to_string()] {
        let storage = Storage::default();
        for name in ["d=2024-01-01%20", "a b", "näme=☃", "p=a%2Fb", "c=x+y&z?#q"] {
            let file = format!("{root}/{name}/f 1%.parquet");
            storage.write(&file, bytes("x")).await.unwrap();
            assert_eq!(storage.read(&file).await.unwrap(), "x", "{name}");
            assert_eq!(
                listed(&storage, &format!("{root}/{name}")).await,
                std::slice::from_ref(&file)
            );
            if root.starts_with("file") {
                let path = file.trim_start_matches("file://");
                assert!(std::path::Path::new(path).exists(), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_big_file_appears_whole_and_only_on_close() {
    let (_guard, root) = folder();
    for root in [root, "memory:///t".to_string()] {
        let storage = Storage::default();
        let location = format!("{root}/data/big.bin");
        let mut output = storage.output(&location).unwrap();
        let piece = Bytes::from((0..1_000_003u32).map(|i| i as u8).collect::<Vec<_>>());
        for _ in 0..20 {
            output.write(piece.clone()).await.unwrap();
        }
        assert!(!storage.exists(&location).await.unwrap());
        assert_eq!(output.close().await.unwrap(), 20 * 1_000_003);
        let read = storage.read(&location).await.unwrap();
        assert_eq!(read.len(), 20 * 1_000_003);
        assert!((0..20).all(|i| read[i * 1_000_003..(i + 1) * 1_000_003] == piece[..]));
    }
}

#[tokio::test]
async fn a_dropped_or_aborted_file_leaves_nothing_behind() {
    let (_guard, root) = folder();
    let storage = Storage::default();
    for abort in [true, false] {
        let mut output = storage.output(&format!("{root}/data/gone.bin")).unwrap();
        for _ in 0..12 {
            output.write(Bytes::from(vec![7; 1024 * 1024])).await.unwrap();
        }
        if abort {
            output.abort().await;
        } else {
            drop(output);
        }
        // Parts still in flight hold the file for a moment.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(listed(&storage, &root).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_folder_lists_its_folders_and_files() {
    let (_guard, root) = folder();
    let storage = Storage::default();
    storage.write(&format!("{root}/a/x"), bytes("1")).await.unwrap();
    storage.write(&format!("{root}/b"), bytes("12")).await.unwrap();
    let listing = storage.list_folder(&root).await.unwrap();
    assert_eq!(listing.folders, [format!("{root}/a")]);
    assert_eq!(listing.files.len(), 1);
    assert_eq!(listing.files[0].size, 2);
    let nothing = storage.list_folder(&format!("{root}/none")).await.unwrap();
    assert_eq!(nothing, FolderListing::default());
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named_with_a_hint() {
    let (_guard, root) = folder();
    let storage = Storage::default();
    storage.write(&format!("{root}/plain"), bytes("x")).await.unwrap();
    // A file where a folder is needed fails for every user, root included.
    let error = storage.write(&format!("{root}/plain/below"), bytes("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("plain/below") && error.hint().is_some(), "{error:?}");
    let error = storage.write("/proc/meltwater", bytes("x")).await.unwrap_err();
    assert!(error.to_string().contains("/proc/meltwater"), "{error:?}");
}

#[tokio::test]
async fn a_path_map_is_applied_when_files_are_opened() {
    let (_guard, root) = folder();
    let storage = Storage::default();
    storage.write(&format!("{root}/data/f"), bytes("x")).await.unwrap();
    let mapped = storage.with_path_map(PathMap::new().with("s3a://bucket/t", &root));
    assert_eq!(mapped.read("s3a://bucket/t/data/f").await.unwrap(), "x");
    let error = mapped.read("gs://other/t").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_given_store_serves_its_root() {
    for root in ["memory://", "memory:///", "s3://bucket", "s3://bucket/"] {
        let store = Arc::new(object_store::memory::InMemory::new());
        let storage = Storage::default().with_store(root, store.clone());
        let file = format!("{}/f", root.trim_end_matches('/').replace("memory:", "memory://"));
        storage.write(&file, bytes("x")).await.unwrap();
        assert_eq!(store.head(&"f".into()).await.unwrap().size, 1, "{root}");
    }
}
