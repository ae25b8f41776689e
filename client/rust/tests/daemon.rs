//! Against a daemon, whose address and a wire Image for it the environment names; without them
//! nothing is asked.

use capstore::{Code, Hash, Kind, Options, Store, Table, Verify};

/// A store, connected, and the wire Image.
fn named() -> Option<(Store, Vec<u8>)> {
    let address = std::env::var("CAPSTORE_TEST_ADDRESS").ok()?;
    let image = std::env::var("CAPSTORE_TEST_IMAGE").ok()?;
    let mut store = Store::new(&Options { leases: true, ..Options::default() }).unwrap();
    store.reconnect(&address).unwrap();
    Some((store, std::fs::read(image).unwrap()))
}

const ABSENT: Hash = Hash([0; 32]);

#[test]
fn what_is_published_is_fetched() {
    let (mut store, wire) = match named() {
        Some(named) => named,
        None => return,
    };
    let published = store.publish(&wire).unwrap();
    let hash = published.hash;
    assert_eq!(store.has(&[hash, ABSENT]).unwrap(), [Some(Kind::Image), None]);
    assert_eq!(store.dry_run(&wire).unwrap().hash, hash);
    let cap = store.get(&hash).unwrap();
    let image = cap.image().unwrap();
    assert_eq!(image.code().len(), 20);
    let slots: Vec<_> = image.slots(Table::Pinned).chain(image.slots(Table::Initial)).collect();
    assert_eq!(slots.len(), 1);

    let mut closure = Vec::new();
    store.closure(&hash, true, |entry, body| {
        assert_eq!(body.unwrap().len() as u64, entry.body_len);
        closure.push(entry.hash);
        true
    }).unwrap();
    closure.sort();
    let mut wanted = vec![hash, slots[0].hash];
    wanted.sort();
    assert_eq!(closure, wanted);
    let stopped = store.closure(&hash, true, |_, _| false).unwrap_err();
    assert_eq!(stopped.code, Code::Cancelled);

    let mut many = [None, None];
    store.get_many(&[slots[0].hash, ABSENT], |i, outcome| many[i] = Some(outcome)).unwrap();
    assert_eq!(many[0].take().unwrap().unwrap().kind(), Kind::Data);
    assert_eq!(many[1].take().unwrap().unwrap_err().code, Code::NotFound);
    assert!(!store.put_cap(&cap).unwrap().is_new);
    assert!(store.keep(&[hash], 7000).unwrap()[0].kept_s > 6000);
    assert_eq!(store.stat(&ABSENT).unwrap_err().code, Code::NotFound);
}

#[test]
fn a_panic_passes_through_the_library() {
    let (mut store, wire) = match named() {
        Some(named) => named,
        None => return,
    };
    let hash = store.publish(&wire).unwrap().hash;
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = store.closure(&hash, false, |_, _| panic!("in a callback"));
    }));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "in a callback");
    assert_eq!(store.has(&[hash]).unwrap(), [Some(Kind::Image)]);
}

#[test]
fn maps_outlive_their_store() {
    let (mut store, wire) = match named() {
        Some(named) => named,
        None => return,
    };
    let hash = store.publish(&wire).unwrap().hash;
    let map = store.map(&hash, Verify::Always).unwrap();
    let space = store.space(&hash, Verify::Once).unwrap();
    drop(store);
    let code = std::thread::scope(|scope| scope.spawn(|| map.bytes()[..20].to_vec()).join().unwrap());
    assert_eq!(space.code()[..20], code[..]);
    assert!(map.is_verified() && map.image().unwrap().code().is_empty());
    let span = space.spans().next().unwrap();
    assert_eq!((span.address, span.read_only, span.fd.is_some()), (capstore::CODE_BASE, true, true));
}
