//! The disk loses what it may, keeps what it must, and does so again for the same seed.

use std::collections::BTreeSet;

use openraft::Instant as _;
use openraft_rt_sim::SimRuntime;

use super::*;

type Simulated = SimulatedDisk<SimRuntime>;

fn run<T>(work: impl Future<Output = T>) -> T {
    SimRuntime::with_seed(0).block_on(work)
}

fn content(disk: &Simulated, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// A disk with a file of eight synced sectors of `a`.
async fn with_file(seed: u64) -> Simulated {
    let disk = Simulated::new(seed, 1 << 20);
    let file = disk.create("journal/0", 4096).unwrap();
    file.write_at(&[b'a'; 4096], 0).unwrap();
    file.sync().await.unwrap();
    disk.sync_folder("journal").await.unwrap();
    disk.sync_folder("").await.unwrap();
    disk
}

#[test]
fn what_was_synced_survives_and_what_was_not_does_so_by_sector() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let after = run(async {
            let disk = with_file(seed).await;
            disk.open("journal/0").unwrap().write_at(&[b'b'; 1536], 512).unwrap();
            disk.crash();
            content(&disk.boot(), "journal/0")
        });
        assert_eq!((&after[..512], &after[2048..]), (&[b'a'; 512][..], &[b'a'; 2048][..]));
        let sectors: Vec<_> = after[512..2048].chunks(512).map(|sector| sector[0]).collect();
        assert!(after[512..2048].chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        seen.insert(sectors);
    }
    assert_eq!(seen.len(), 8, "every combination of three sectors comes up");
}

#[test]
fn names_that_were_not_synced_may_be_undone() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        seen.insert(run(async {
            let disk = with_file(seed).await;
            disk.create("journal/1", 512).unwrap();
            disk.rename("journal/0", "journal/2").unwrap();
            disk.crash();
            disk.boot().list("journal").unwrap()
        }));
    }
    let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(seen, ["0", "0 1", "1 2", "2"].map(names).into());
}

#[test]
fn a_folder_that_was_not_synced_may_be_gone_with_all_its_files() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        seen.insert(run(async {
            let disk = Simulated::new(seed, 1 << 20);
            disk.create("journal/0", 512).unwrap().sync().await.unwrap();
            disk.sync_folder("journal").await.unwrap();
            disk.crash();
            disk.boot().list("journal").unwrap().len()
        }));
    }
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn a_failed_sync_drops_the_pages_and_the_next_one_succeeds() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        run(async {
            let disk = with_file(seed).await;
            let file = disk.open("journal/0").unwrap();
            disk.fail_sync(1);
            file.sync().await.unwrap();
            file.write_at(&[b'b'; 4096], 0).unwrap();
            assert_eq!(file.sync().await.unwrap_err().raw_os_error(), Some(5));
            file.sync().await.unwrap();
            seen.extend(content(&disk, "journal/0"));
            disk.crash();
            assert_eq!(content(&disk.boot(), "journal/0"), [b'a'; 4096], "nothing reached the medium");
        });
    }
    assert_eq!(seen, [b'a', b'b'].into(), "some can be read until then");
}

#[test]
fn handles_of_an_earlier_life_are_dead() {
    run(async {
        let disk = with_file(1).await;
        let file = disk.open("journal/0").unwrap();
        disk.crash();
        assert!(file.write_at(b"x", 0).is_err() && file.sync().await.is_err() && disk.list("journal").is_err());
        assert!(disk.boot().open("journal/0").is_ok());
    });
}

#[test]
fn it_fills_up() {
    run(async {
        let disk = Simulated::new(1, 1000);
        disk.create("a", 600).unwrap();
        assert_eq!(disk.create("b", 600).unwrap_err().kind(), io::ErrorKind::StorageFull);
        let small = disk.create("b", 0).unwrap();
        assert_eq!(small.write_at(&[0; 401], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        small.write_at(&[0; 400], 0).unwrap();
        assert_eq!((disk.free().unwrap(), disk.total().unwrap()), (0, 1000));
        disk.remove("a").unwrap();
        assert_eq!(disk.free().unwrap(), 600);
    });
}

#[test]
fn an_old_image_can_be_put_back_and_a_folder_lost() {
    run(async {
        let disk = with_file(1).await;
        let image = disk.image();
        let file = disk.open("journal/0").unwrap();
        file.write_at(b"new", 0).unwrap();
        file.sync().await.unwrap();
        disk.restore(&image);
        assert!(file.sync().await.is_err());
        let disk = disk.boot();
        assert_eq!(content(&disk, "journal/0"), [b'a'; 4096]);
        assert!(disk.flip("journal/0", 7, 0));
        assert_eq!(content(&disk, "journal/0")[7], b'a' ^ 1);
        disk.wipe("journal");
        assert_eq!(disk.list("journal").unwrap(), Vec::<String>::new());
    });
}

#[test]
fn syncs_take_their_time() {
    run(async {
        let disk = with_file(1).await;
        disk.set_sync_latency(Duration::from_millis(2), Duration::from_millis(9));
        let start = <SimRuntime as AsyncRuntime>::Instant::now();
        disk.open("journal/0").unwrap().sync().await.unwrap();
        let took = <SimRuntime as AsyncRuntime>::Instant::now() - start;
        assert!((Duration::from_millis(2)..Duration::from_millis(9)).contains(&took), "{took:?}");
    });
}
