//! Readers, slices and lazy maps against a daemon and one that lies, whose addresses the environment
//! names; without them nothing is asked.

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use capstore::{
    Code, Hash, Kind, Lazy, OpenOptions, Options, Parts, Proven, SliceVerifier, Store, PAGE_SIZE,
};

const PAGES: usize = 256;
const ABSENT: Hash = Hash([0; 32]);
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;

/// Pages that do not repeat.
fn content() -> Vec<u8> {
    let mut bytes = vec![0; PAGES * PAGE_SIZE];
    for (i, word) in bytes.chunks_mut(8).enumerate() {
        word.copy_from_slice(&(i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes
}

fn store_at(variable: &str) -> Option<Store> {
    Some(Store::connect(&env::var(variable).ok()?).unwrap())
}

/// A store and the hash of `content`, which is published.
fn published() -> Option<(Store, Hash)> {
    let mut store = store_at("CAPSTORE_TEST_ADDRESS")?;
    let hash = store.put_data(&content(), 0).unwrap().hash;
    Some((store, hash))
}

/// The same of a store that passes on one wrong byte over each connection, past the first head.
fn lying() -> Option<(Store, Hash)> {
    let (_, hash) = published()?;
    Some((store_at("CAPSTORE_TEST_LIAR")?, hash))
}

fn maps_lazily(parts: Parts<'_>, hash: &Hash) -> bool {
    let reader = parts.open(hash, &OpenOptions::default()).unwrap();
    let outcome = reader.map_lazy(|_| false);
    if let Err(error) = &outcome {
        assert_eq!(error.code, Code::NotSupported);
        println!("no lazy maps here");
    }
    outcome.is_ok()
}

#[test]
fn threads_read_parts_of_one_store() {
    let (mut store, hash) = match published() {
        Some(published) => published,
        None => return,
    };
    let content = content();
    let parts = store.parts();
    let readers: Vec<_> =
        (0..2).map(|_| parts.open(&hash, &OpenOptions::default()).unwrap()).collect();
    let (kind, size) = (readers[0].kind(), readers[0].size());
    assert_eq!((kind, size, readers[0].hash()), (Kind::Data, content.len() as u64, hash));
    assert!(readers[0].image().is_none());
    std::thread::scope(|scope| {
        for i in 0..4 {
            let (reader, content) = (&readers[i % 2], &content);
            scope.spawn(move || {
                for at in (i * 1000..content.len()).step_by(70_001) {
                    let mut got = [0; 5000];
                    let len = reader.read_at(at as u64, &mut got).unwrap();
                    assert_eq!(got[..len], content[at..content.len().min(at + 5000)]);
                }
            });
        }
    });
    assert_eq!(readers[0].read_at(size, &mut [0]).unwrap(), 0);
    assert!(readers[0].counts().fetched_pages > 0);
    assert_eq!(parts.open(&ABSENT, &OpenOptions::default()).err().unwrap().code, Code::NotFound);
    drop(readers);
    assert!(store.message().contains(&ABSENT.to_string()), "{}", store.message());
}

#[test]
fn a_cache_is_gone_on_with() {
    let (mut store, hash) = match published() {
        Some(published) => published,
        None => return,
    };
    let directory = env::temp_dir().join(format!("capstore-cache-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let options =
        OpenOptions { cache_directory: Some(directory.clone()), ..OpenOptions::default() };
    let mut counts = Vec::new();
    for _ in 0..2 {
        let reader = store.parts().open(&hash, &options).unwrap();
        let mut page = [0; PAGE_SIZE];
        reader.read_at(0, &mut page).unwrap();
        assert_eq!(page, content()[..PAGE_SIZE]);
        counts.push(reader.counts());
    }
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(counts[0].fetched_pages > 0 && !counts[0].cache_failed, "{counts:?}");
    assert!(counts[1].cached_pages > 0 && counts[1].requests == 0, "{counts:?}");
}

#[test]
fn a_reader_never_gives_a_lie() {
    let (mut store, hash) = match lying() {
        Some(lying) => lying,
        None => return,
    };
    let reader = store.parts().open(&hash, &OpenOptions::default()).unwrap();
    let mut got = vec![0; PAGES * PAGE_SIZE];
    let failed = reader.read_at(0, &mut got).unwrap_err();
    assert_eq!(failed.code, Code::SliceMismatch);
    let len = reader.read_at(0, &mut got).unwrap(); // one wrong byte is all
    assert!(got[..len] == content()[..len]);
}

#[test]
fn slices_are_verified_anywhere() {
    let (mut store, hash) = match published() {
        Some(published) => published,
        None => return,
    };
    let mut slice = Vec::new();
    store.slice(&hash, &[9..11, 3..4], |piece| {
        slice.extend_from_slice(piece);
        true
    }).unwrap();
    let stopped = store.slice(&hash, &[0..1], |_| false).unwrap_err();
    assert_eq!(stopped.code, Code::Cancelled);
    assert_eq!(store.slice(&hash, &[255..257], |_| true).unwrap_err().code, Code::RangeOutOfBody);

    let content = content();
    let mut seen = Vec::new();
    let mut verifier = SliceVerifier::new(&hash, Some(&[3..4, 9..11]), |proven| {
        match proven {
            Proven::Head { kind, size, page_count, image } => {
                assert_eq!((kind, size), (Kind::Data, content.len() as u64));
                assert!(page_count == PAGES as u64 && image.is_none());
            }
            Proven::Pages { first, bytes } => {
                let at = first as usize * PAGE_SIZE;
                assert_eq!(bytes, &content[at..at + bytes.len()]);
                seen.extend((0..bytes.len() / PAGE_SIZE).map(|i| first + i as u64));
            }
            Proven::Zeros { .. } => panic!("there are none"),
        }
        true
    }).unwrap();
    for piece in slice.chunks(1000) {
        verifier.take(piece).unwrap();
    }
    verifier.finish().unwrap();
    drop(verifier);
    assert_eq!(seen, [3, 9, 10]);

    let last = slice.len() - 1;
    let mut short = SliceVerifier::new(&hash, None, |_| true).unwrap();
    short.take(&slice[..last]).unwrap();
    assert_eq!(short.finish().unwrap_err().code, Code::SliceMalformed);
    slice[last] ^= 1;
    let mut wrong = SliceVerifier::new(&hash, None, |_| true).unwrap();
    let refused = wrong.take(&slice).and_then(|()| wrong.finish()).unwrap_err();
    assert_eq!(refused.code, Code::SliceMismatch);
    assert!(wrong.failed_at().offset as usize <= slice.len());
    slice[last] ^= 1;
    let mut panics = SliceVerifier::new(&hash, None, |_| panic!("in a sink")).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = panics.take(&slice);
    }));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "in a sink");
    let mut stopped = SliceVerifier::new(&hash, None, |_| false).unwrap();
    assert_eq!(stopped.take(&slice).unwrap_err().code, Code::Cancelled);
}

#[test]
fn lazy_memory_is_shared_by_threads() {
    let (mut store, hash) = match published() {
        Some(published) => published,
        None => return,
    };
    let parts = store.parts();
    if !maps_lazily(parts, &hash) {
        return;
    }
    let content = content();
    let reader = parts.open(&hash, &OpenOptions::default()).unwrap();
    let map = reader.map_lazy(|failure| panic!("{failure:?}")).unwrap();
    std::thread::scope(|scope| {
        for i in 0..4 {
            let (bytes, content) = (map.bytes(), &content);
            scope.spawn(move || {
                for at in (i * 999..content.len()).step_by(30_001) {
                    assert_eq!(bytes[at], content[at]);
                }
            });
        }
    });
    assert!(map.bytes() == content);
    assert_eq!(map.counts().fetched_pages, PAGES as u64);
    assert!(map.image().is_none());
}

#[test]
fn a_failed_page_is_told_and_tried_again() {
    let (mut store, hash) = match lying() {
        Some(lying) => lying,
        None => return,
    };
    if !store_at("CAPSTORE_TEST_ADDRESS").map_or(false, |mut s| maps_lazily(s.parts(), &hash)) {
        return;
    }
    let told = AtomicUsize::new(0);
    let reader = store.parts().open(&hash, &OpenOptions::default()).unwrap();
    let mine = std::thread::current().id();
    let map = reader.map_lazy(|failure| {
        assert_eq!((failure.hash, failure.page, failure.code), (hash, 1, Code::SliceMismatch));
        assert!(failure.message.contains("slice"), "{}", failure.message);
        assert_ne!(std::thread::current().id(), mine);
        told.fetch_add(1, Ordering::SeqCst) == 0
    }).unwrap();
    assert_eq!(map.bytes()[PAGE_SIZE..2 * PAGE_SIZE], content()[PAGE_SIZE..2 * PAGE_SIZE]);
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

/// A child of this program that runs a test of it in another way; the signal that ends it.
fn ended_by(test: &str) -> Option<i32> {
    let program = env::current_exe().unwrap();
    let mut child = Command::new(program);
    let output = child.args(["--exact", test, "--nocapture"]).env("CAPSTORE_TEST_CHILD", "1").output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("wrong bytes"), "{said}");
    output.status.signal()
}

/// Touches a page that the liar spoils, in a child; `failed` is what is asked.
fn spoiled(test: &str, failed: fn(&capstore::LazyFailure<'_>) -> bool, signal: i32) {
    let (mut store, hash) = match lying() {
        Some(lying) => lying,
        None => return,
    };
    if env::var_os("CAPSTORE_TEST_CHILD").is_some() {
        let reader = store.parts().open(&hash, &OpenOptions::default()).unwrap();
        let map = reader.map_lazy(failed).unwrap();
        println!("wrong bytes: {:?}", &map.bytes()[..8]);
    } else if store_at("CAPSTORE_TEST_ADDRESS").map_or(false, |mut s| maps_lazily(s.parts(), &hash)) {
        assert_eq!(ended_by(test), Some(signal));
    }
}

#[test]
fn a_page_given_up_is_a_fault() {
    spoiled("a_page_given_up_is_a_fault", |_| false, SIGBUS);
}

#[test]
fn a_panic_in_failed_aborts() {
    spoiled("a_panic_in_failed_aborts", |_| panic!("on the map's thread"), SIGABRT);
}

static DROPPED_INSIDE: Mutex<Option<Lazy<'static>>> = Mutex::new(None);

#[test]
fn a_map_dropped_in_failed_aborts() {
    let (store, hash) = match lying() {
        Some(lying) => lying,
        None => return,
    };
    if env::var_os("CAPSTORE_TEST_CHILD").is_some() {
        let parts = Box::leak(Box::new(store)).parts();
        let reader = Box::leak(Box::new(parts.open(&hash, &OpenOptions::default()).unwrap()));
        let map = reader.map_lazy(|_| {
            drop(DROPPED_INSIDE.lock().unwrap().take());
            false
        }).unwrap();
        let at = map.bytes().as_ptr();
        *DROPPED_INSIDE.lock().unwrap() = Some(map);
        // SAFETY: it is mapped until the touch of it ends the process.
        println!("wrong bytes: {}", unsafe { at.read_volatile() });
    } else if store_at("CAPSTORE_TEST_ADDRESS").map_or(false, |mut s| maps_lazily(s.parts(), &hash)) {
        assert_eq!(ended_by("a_map_dropped_in_failed_aborts"), Some(SIGABRT));
    }
}

#[test]
fn a_program_is_laid_out_lazily() {
    let (mut store, program) = match (published(), env::var("CAPSTORE_TEST_PROGRAM")) {
        (Some((store, _)), Ok(path)) => (store, std::fs::read(path).unwrap()),
        _ => return,
    };
    let data = store.put_data(&content(), 0).unwrap().hash;
    let hash = store.publish(&program).unwrap().hash;
    let parts = store.parts();
    if !maps_lazily(parts, &data) {
        return;
    }
    let none = |failure: &capstore::LazyFailure<'_>| panic!("{failure:?}");
    let refused = parts.space_lazy(&data, &OpenOptions::default(), 1 << 32, none).err().unwrap();
    assert_eq!(refused.code, Code::WrongKind);
    let refused = parts.space_lazy(&hash, &OpenOptions::default(), 1 << 20, none).err().unwrap();
    assert_eq!(refused.code, Code::InvalidArgument); // the code does not fit
    let space = parts.space_lazy(&hash, &OpenOptions::default(), 1 << 32, none).unwrap();
    let region = space.image().unwrap().regions().unwrap()[0];
    assert!(region.slot.is_some() && !region.read_only);
    // SAFETY: both addresses are of the program, and the second may be written to.
    unsafe {
        let code = space.base().add(capstore::CODE_BASE as usize);
        assert_eq!(code.read_volatile(), 0x13);
        let data = space.base().add(region.start as usize + PAGE_SIZE);
        let byte = data.read_volatile();
        data.write_volatile(byte.wrapping_add(1));
        assert_eq!(data.read_volatile(), byte.wrapping_add(1));
    }
    assert!(space.counts().fetched_pages > 0 && space.size() == 1 << 32);
}

#[test]
fn a_refused_upload_says_what_is_short() {
    let mut store = match store_at("CAPSTORE_TEST_QUOTA") {
        Some(store) => store,
        None => return,
    };
    let refused = store.put_data(&content(), 0).unwrap_err();
    assert_eq!(refused.code, Code::QuotaExceeded);
    let shortage = refused.shortage.unwrap();
    assert_eq!((shortage.need >= content().len() as u64, shortage.have), (true, 100_000));
    assert_eq!(shortage.limit, "quota-bytes");
    assert_eq!(store.get(&ABSENT).unwrap_err().shortage, None);
}

/// The address cuts a connection once so many bytes were sent over it.
#[test]
fn uploads_go_on() {
    let address = match env::var("CAPSTORE_TEST_CUT") {
        Ok(address) => address,
        Err(_) => return,
    };
    let mut bytes = content().repeat(5);
    for (i, page) in bytes.chunks_mut(PAGE_SIZE).enumerate() {
        page[..8].copy_from_slice(&(i as u64).to_le_bytes());
    }
    let mut store = Store::connect(&address).unwrap();
    let put = store.put_data(&bytes, 0).unwrap();
    assert!(put.is_new);
    assert_eq!(put.hash, capstore::data_hash(&bytes, 0).unwrap());
    let path = env::temp_dir().join(format!("capstore-file-{}", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let again = store.put_file(&std::fs::File::open(&path).unwrap(), 0);
    std::fs::remove_file(&path).unwrap();
    assert_eq!((again.as_ref().unwrap().hash, again.unwrap().is_new), (put.hash, false));
}

#[test]
fn the_rest_of_a_connection() {
    let (mut store, hash) = match published() {
        Some(published) => published,
        None => return,
    };
    let info = store.info().unwrap();
    assert!(info.max_hashes > 0 && info.max_upload > 0 && !info.agent.is_empty(), "{info:?}");
    let body = store.get(&hash).unwrap().body().to_vec();
    let mut part = Vec::new();
    store.get_range(&hash, 10, 5000, |piece| {
        part.extend_from_slice(piece);
        true
    }).unwrap();
    assert_eq!(part, body[10..5010]);
    let mut leases = Store::new(&Options { leases: true, no_resume: true, ..Options::default() }).unwrap();
    leases.reconnect(&env::var("CAPSTORE_TEST_ADDRESS").unwrap()).unwrap();
    leases.set_keep(7000);
    assert!(leases.put_data(b"kept", 0).unwrap().kept_s > 6000);
    let path = env::var("CAPSTORE_TEST_ADDRESS").unwrap().replace("unix:", "");
    leases.reconnect_fd(std::os::unix::net::UnixStream::connect(path).unwrap().into()).unwrap();
    assert_eq!(leases.has(&[hash]).unwrap(), [Some(Kind::Data)]);
    assert!(store.map(&hash, capstore::Verify::Once).unwrap().fd().try_clone_to_owned().is_ok());
}
