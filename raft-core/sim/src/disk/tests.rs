use super::*;
use crate::time::rng;

fn io(what: &str) -> DiskError {
    DiskError::Io { what: String::from(what) }
}

/// Opened, with this file of these bytes durable.
fn holding(bytes: &[u8]) -> SimDisk {
    let mut disk = SimDisk::new(String::from("disk 1"));
    disk.settle(&[Change::Create { file: "a" }, write(0, bytes)]).unwrap();
    disk
}

const fn write(offset: u64, bytes: &[u8]) -> Change<'_> {
    Change::Write { file: "a", offset, bytes }
}

fn read(disk: &SimDisk, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
    let mut buffer = vec![0; len];
    disk.read_at("a", offset, &mut buffer).map(|()| buffer)
}

fn shown(disk: &SimDisk) -> Vec<u8> {
    disk.contents().remove("a").unwrap_or_default()
}

fn sync(disk: &SimDisk) {
    assert!(disk.begin_sync().is_some());
    disk.end_sync();
}

#[test]
fn contract_2_what_is_submitted_while_a_sync_runs_waits_for_the_next() {
    let mut disk = holding(b"");
    assert_eq!(disk.begin_sync(), None);
    assert_eq!(disk.submit(write(0, b"ab")), Ok(1));
    assert_eq!(disk.begin_sync(), Some(2));
    assert_eq!(disk.submit(write(2, b"c")), Ok(2));
    assert_eq!(disk.submit(Change::Rename { from: "a", to: "b" }), Ok(3));
    assert_eq!((disk.begin_sync(), disk.durable(), disk.is_syncing()), (None, Ok(0), true));
    disk.end_sync();
    assert_eq!((disk.durable(), disk.is_syncing()), (Ok(1), false));
    disk.end_sync();
    assert_eq!((disk.durable(), disk.begin_sync()), (Ok(1), Some(2)));
    disk.end_sync();
    assert_eq!((disk.durable(), disk.begin_sync(), disk.writes()), (Ok(3), None, 3));
    assert_eq!((disk.files(), disk.contents()["b"].as_slice()), (vec![String::from("b")], &b"abc"[..]));
}

#[test]
fn contract_3_a_crash_leaves_what_is_durable_and_any_part_of_the_writes_up_to_a_barrier() {
    let (mut lengths, mut torn, mut whole, mut renamed) = (BTreeSet::new(), 0, 0, 0);
    for seed in 0..2_000 {
        let mut disk = holding(&[1; 1600]);
        disk.submit(write(1600, &[3; 1000])).unwrap();
        let _ = disk.begin_sync();
        disk.submit(write(2600, &[4; 500])).unwrap();
        disk.submit(Change::Rename { from: "a", to: "b" }).unwrap();
        disk.submit(Change::Write { file: "b", offset: 0, bytes: &[5; 600] }).unwrap();
        disk.crash(&mut rng(seed, "disk"));
        let submitted = [vec![1; 1600], vec![3; 1000], vec![4; 500]].concat();
        let contents = disk.contents();
        if let Some(after) = contents.get("b") {
            let kept = after.iter().take_while(|byte| **byte == 5).count();
            assert!(kept <= 600 && after[600..] == submitted[600..], "seed {seed}: all before a barrier is whole");
            renamed += 1;
            continue;
        }
        let left = shown(&disk);
        assert_eq!(left[..1600], submitted[..1600], "seed {seed}");
        for start in (1536..left.len()).step_by(512) {
            let sector = start.max(1600)..(start + 512).min(left.len());
            let (left, was) = (&left[sector.clone()], &submitted[sector]);
            let is_part = left.iter().zip(was).all(|(left, was)| left == was || *left == 0);
            assert!(is_part, "seed {seed}");
        }
        lengths.insert(left.len());
        torn += u32::from(left[1600..].contains(&0));
        whole += u32::from(left == submitted);
    }
    assert!(lengths.len() > 300 && torn > 200 && renamed > 300, "{} lengths, {torn} torn, {renamed}", lengths.len());
    assert!(lengths.contains(&1600), "{whole}");
}

#[test]
fn contract_4_reads_answer_what_is_durable_or_was_there_at_the_beginning() {
    let mut disk = holding(b"abc");
    disk.submit(write(3, b"de")).unwrap();
    let past = |end| Err(DiskError::PastEnd { place: String::from("disk 1/a"), end });
    assert_eq!(read(&disk, 1, 2), Ok(b"bc".to_vec()));
    assert_eq!(read(&disk, 1, 3), past(4));
    assert_eq!(read(&disk, u64::MAX, 3), past(u64::MAX));
    let _ = disk.begin_sync();
    assert_eq!(read(&disk, 3, 1), past(4));
    disk.end_sync();
    assert_eq!(read(&disk, 0, 5), Ok(b"abcde".to_vec()));
    disk.submit(write(5, b"fg")).unwrap();
    disk.crash_with(1, |_, _| true);
    assert_eq!((read(&disk, 3, 3), read(&disk, 3, 4), disk.torn()), (Ok(b"def".to_vec()), past(7), (1, 0)));
}

#[test]
fn contract_5_the_first_failure_is_the_last_write() {
    let mut disk = holding(b"abc");
    disk.submit(write(3, b"de")).unwrap();
    let _ = disk.begin_sync();
    disk.fail(io("first"));
    disk.fail(io("second"));
    assert_eq!((disk.durable(), disk.has_failed()), (Ok(0), false));
    disk.end_sync();
    assert!(disk.has_failed());
    disk.fail(io("third"));
    assert_eq!(disk.durable(), Err(io("first")));
    assert_eq!(disk.submit(write(5, b"f")), Err(io("first")));
    assert_eq!((disk.begin_sync(), read(&disk, 0, 3)), (None, Ok(b"abc".to_vec())));
    disk.crash_with(0, |_, _| true);
    assert_eq!(disk.settle(&[]), Ok(()));
    assert_eq!((disk.durable(), disk.submit(write(3, b"x"))), (Ok(0), Ok(1)));
    sync(&disk);
    assert_eq!(disk.durable(), Ok(1));
}

#[test]
fn a_failure_while_nothing_runs_is_that_of_the_next_write() {
    let mut disk = holding(b"");
    disk.fail(io("next"));
    assert_eq!((disk.durable(), disk.submit(write(0, b"a"))), (Ok(0), Ok(1)));
    sync(&disk);
    assert_eq!(disk.durable(), Err(io("next")));
    disk.crash_with(0, |_, _| true);
    disk.fail(io("settling"));
    assert_eq!(disk.settle(&[write(0, b"abc")]), Err(io("settling")));
    assert_eq!((shown(&disk), disk.submit(write(0, b"a"))), (Vec::new(), Err(io("settling"))));
    disk.crash_with(0, |_, _| true);
    disk.fail(io("of a life that ends first"));
    disk.crash_with(0, |_, _| true);
    assert_eq!(disk.settle(&[write(0, b"abc")]), Ok(()));
}

#[test]
fn contract_6_settle_comes_before_the_first_write() {
    let mut disk = holding(b"abcdef");
    disk.crash_with(0, |_, _| true);
    assert_eq!(disk.settle(&[write(2, b"xy"), write(4, &[0, 0])]), Ok(()));
    assert_eq!(shown(&disk), b"abxy\0\0");
    disk.submit(write(4, b"z")).unwrap();
    assert!(matches!(disk.settle(&[]), Err(DiskError::Io { .. })));
}

#[test]
fn a_full_disk_refuses_writes_until_another_life() {
    let mut disk = holding(b"abc");
    disk.submit(write(3, b"d")).unwrap();
    let _ = disk.begin_sync();
    disk.set_full(true);
    let full = || DiskError::Full { what: String::from("write disk 1/a") };
    assert_eq!(disk.submit(write(2, b"cd")), Ok(2), "its file has that room");
    assert_eq!(disk.submit(write(4, b"e")), Err(full()));
    disk.end_sync();
    disk.set_full(false);
    assert_eq!((disk.durable(), shown(&disk)), (Err(full()), b"abc".to_vec()));
    disk.crash_with(1, |_, _| true);
    disk.set_full(true);
    assert_eq!((disk.settle(&[write(1, b"xyz")]), disk.has_free(1)), (Ok(()), false));
    disk.prepare("spare", 9);
    assert_eq!((disk.holds("spare"), disk.lacks_room()), (false, true));
    disk.set_full(false);
    disk.prepare("spare", 9);
    assert_eq!((disk.holds("spare"), disk.lacks_room(), disk.has_free(1)), (true, false, true));
    assert_eq!(disk.submit(write(4, b"e")), Ok(2));
    disk.crash_with(9, |_, _| true);
    disk.set_full(true);
    assert_eq!(disk.settle(&[write(4, b"efg")]), Err(full()));
}

#[test]
fn reads_fail_while_they_are_told_to() {
    let mut disk = holding(b"abc");
    disk.fail_reads(true);
    assert!(matches!(read(&disk, 0, 1), Err(DiskError::Io { .. })));
    assert_eq!(disk.submit(write(3, b"d")), Ok(1));
    disk.crash_with(1, |_, _| true);
    assert!(read(&disk, 0, 1).is_err());
    disk.fail_reads(false);
    assert_eq!(read(&disk, 0, 1), Ok(b"a".to_vec()));
}

/// A sync that failed may leave bytes that are read as if they were there. Written again they are; else they may go.
#[test]
fn d3_what_a_failed_sync_shows_is_doubtful_until_written_again() {
    let (mut looked_whole, mut went) = (0, 0);
    for seed in 0..200 {
        for rewrites in [true, false] {
            let (mut rng, mut disk) = (rng(seed, "doubtful"), holding(&[1; 600]));
            disk.submit(write(600, &[2; 2000])).unwrap();
            disk.fail(io("sync"));
            sync(&disk);
            disk.crash(&mut rng);
            let found = shown(&disk);
            disk.settle(&[write(600, if rewrites { &found[600..] } else { &[] })]).unwrap();
            disk.crash(&mut rng);
            let lost = shown(&disk) != found;
            assert!(!(rewrites && lost), "seed {seed}");
            assert_eq!(shown(&disk)[..600], [1_u8; 600]);
            looked_whole += u32::from(found.len() == 2600 && !found.contains(&0));
            went += u32::from(lost);
        }
    }
    assert!(looked_whole > 100 && went > 30, "{looked_whole}, {went}");
}

#[test]
fn a_wiped_disk_is_a_new_one() {
    let mut disk = holding(b"abc");
    disk.submit(write(3, b"d")).unwrap();
    disk.fail(io("never"));
    disk.wipe();
    assert_eq!((disk.files(), disk.durable(), disk.writes()), (Vec::new(), Ok(0), 1));
    assert_eq!(disk.place(), "disk 1");
    assert_eq!(disk.settle(&[Change::Create { file: "a" }]), Ok(()));
    assert_eq!(disk.rot(&mut rng(1, "rot")), None);
}

const ONE: &str = "segment-0000000000000001";
const TWO: &str = "segment-0000000000000002";

const fn frame<'a>(file: &'a str, offset: u64, bytes: &'a [u8]) -> Change<'a> {
    Change::Write { file, offset, bytes }
}

/// A disk with a segment of a hundred bytes.
fn founded() -> SimDisk {
    let mut disk = SimDisk::new(String::from("disk 1"));
    disk.settle(&[Change::Create { file: ONE }, frame(ONE, 0, &[1; 100])]).unwrap();
    disk
}

/// Where rot may be, by many tries: the last place of each file.
fn rotten(disk: &SimDisk) -> BTreeMap<String, u64> {
    let (mut rng, mut last) = (rng(1, "rot"), BTreeMap::new());
    for _ in 0..800 {
        let Some((file, at)) = disk.rot(&mut rng) else { continue };
        let furthest = last.entry(file).or_insert(at);
        *furthest = at.max(*furthest);
    }
    last
}

/// Only what the writer had been told of before a write that is durable by now.
#[test]
fn rot_spares_what_no_durable_write_vouches_for() {
    let mut disk = founded();
    disk.submit(frame(ONE, 100, &[1; 50])).unwrap();
    assert!(rotten(&disk).is_empty());
    sync(&disk);
    // The first write vouches for the hundred.
    assert!((90..100).contains(&rotten(&disk)[ONE]));
    // Durable, but the writer has not asked: the next write vouches for no more.
    disk.submit(frame(ONE, 150, &[1; 50])).unwrap();
    sync(&disk);
    assert!(rotten(&disk)[ONE] < 100);
    assert_eq!(disk.durable(), Ok(2));
    disk.submit(frame(ONE, 200, &[1; 50])).unwrap();
    assert!(rotten(&disk)[ONE] < 100);
    sync(&disk);
    assert!((150..200).contains(&rotten(&disk)[ONE]));
    // A log that ends before its last voucher has none.
    disk.crash_with(0, |_, _| true);
    disk.settle(&[frame(ONE, 150, &[1; 90]), frame(ONE, 240, &[0; 10])]).unwrap();
    assert!(rotten(&disk).is_empty());
}

/// A segment that has begun vouches for all of those before it; and an installed snapshot needs no voucher.
#[test]
fn rot_befalls_segments_that_another_follows_and_installed_snapshots() {
    let mut disk = founded();
    disk.submit(frame(ONE, 100, &[1; 50])).unwrap();
    disk.submit(Change::Create { file: "receiving-1" }).unwrap();
    disk.submit(frame("receiving-1", 0, &[1; 80])).unwrap();
    disk.submit(Change::Create { file: TWO }).unwrap();
    disk.submit(frame(TWO, 0, &[1; 70])).unwrap();
    assert!(rotten(&disk).is_empty());
    sync(&disk);
    assert_eq!(rotten(&disk).keys().collect::<Vec<_>>(), [ONE]);
    assert!((140..150).contains(&rotten(&disk)[ONE]));
    disk.submit(Change::Rename { from: "receiving-1", to: "snapshot-7" }).unwrap();
    disk.submit(frame(TWO, 70, &[1; 70])).unwrap();
    assert!(!rotten(&disk).contains_key("snapshot-7"));
    sync(&disk);
    assert_eq!(rotten(&disk).keys().collect::<Vec<_>>(), [ONE, "snapshot-7"]);
    disk.submit(Change::Remove { file: ONE }).unwrap();
    sync(&disk);
    assert_eq!(rotten(&disk).keys().collect::<Vec<_>>(), ["snapshot-7"]);
}

/// A write that no sync had reached and that a crash left whole vouches from then on; one that the next life cut does
/// not.
#[test]
fn a_write_vouches_in_the_next_life_if_it_is_still_there() {
    for (len, vouches) in [(105, true), (102, false)] {
        let mut disk = founded();
        disk.submit(frame(ONE, 100, b"frame")).unwrap();
        disk.crash_with(5, |_, _| true);
        assert!(rotten(&disk).is_empty());
        disk.settle(&[frame(ONE, len, &[]), frame(ONE, len, &[0; 9])]).unwrap();
        assert_eq!(!rotten(&disk).is_empty(), vouches);
        // Whatever became of it, the next one does.
        disk.submit(frame(ONE, len, b"x")).unwrap();
        sync(&disk);
        assert!(rotten(&disk)[ONE] >= 100);
    }
}

#[test]
fn rot_flips_one_to_eight_bits_of_one_place_or_of_several() {
    let (mut counts, mut near) = (BTreeSet::new(), 0);
    for seed in 0..400 {
        let mut disk = SimDisk::new(String::from("disk 1"));
        disk.settle(&[Change::Create { file: ONE }, frame(ONE, 0, &[1; 10_000])]).unwrap();
        disk.submit(frame(ONE, 10_000, b"x")).unwrap();
        sync(&disk);
        let first = disk.rot(&mut rng(seed, "rot")).unwrap().1 as usize;
        let bytes = disk.contents().remove(ONE).unwrap();
        let flipped: Vec<usize> = (0..10_000).filter(|at| bytes[*at] != 1).collect();
        counts.insert(bytes[..10_000].iter().map(|byte| (byte ^ 1).count_ones()).sum::<u32>());
        assert_eq!(flipped.first(), Some(&first));
        near += u32::from((flipped.last().unwrap() - first) as u64 <= ROTTEN_PLACE / 8);
    }
    assert_eq!((counts.first(), counts.last(), counts.len()), (Some(&1), Some(&8), 8));
    assert!((150..300).contains(&near), "{near}");
}

#[test]
fn equal_seeds_leave_equal_bytes() {
    let life = |seed| {
        let (mut rng, mut disk, mut end) = (rng(seed, "disk"), holding(&[7; 300]), 300);
        for number in 0..20_u8 {
            let bytes = vec![number + 1; 200 + 31 * usize::from(number)];
            disk.submit(write(end, &bytes)).unwrap();
            end += bytes.len() as u64;
            if number % 3 == 0 {
                sync(&disk);
                disk.durable().unwrap();
            }
            if number % 7 == 6 {
                disk.crash(&mut rng);
                end = shown(&disk).len() as u64;
            }
        }
        disk.crash(&mut rng);
        disk.contents()
    };
    assert_eq!(life(5), life(5));
    assert_ne!(life(5), life(6));
}

#[test]
fn a_crash_while_files_are_founded_leaves_any_of_them() {
    let left: BTreeSet<Option<usize>> = (0..200)
        .map(|seed| {
            let disk = holding(&[7; 100]);
            disk.crash_founding(&mut rng(seed, "disk"));
            disk.contents().get("a").map(Vec::len)
        })
        .collect();
    assert!(left.contains(&None) && left.contains(&Some(100)) && left.len() > 10, "{left:?}");
}
