use super::*;
use crate::time::rng;

fn io(what: &str) -> DiskError {
    DiskError::Io { what: String::from(what) }
}

fn disk() -> SimDisk {
    SimDisk::new(String::from("disk 1"))
}

/// Opened, with these bytes durable.
fn holding(bytes: &[u8]) -> SimDisk {
    let mut disk = disk();
    disk.settle(0, bytes).unwrap();
    disk
}

fn read(disk: &SimDisk, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
    let mut buffer = vec![0; len];
    disk.read_at(offset, &mut buffer).map(|()| buffer)
}

fn sync(disk: &SimDisk) {
    assert!(disk.begin_sync().is_some());
    disk.end_sync();
}

#[test]
fn contract_1_len_counts_what_is_submitted() {
    let mut disk = holding(b"abc");
    assert_eq!(disk.submit(b"de"), Ok(5));
    assert_eq!(disk.submit(b"f"), Ok(6));
    assert_eq!((disk.len(), disk.durable(), disk.unsynced(), disk.writes()), (6, Ok(3), 3, 2));
}

#[test]
fn contract_2_what_is_submitted_while_a_sync_runs_waits_for_the_next() {
    let mut disk = disk();
    assert_eq!(disk.begin_sync(), None);
    disk.submit(b"ab").unwrap();
    assert_eq!(disk.begin_sync(), Some(2));
    disk.submit(b"c").unwrap();
    disk.submit(b"d").unwrap();
    assert_eq!((disk.begin_sync(), disk.durable(), disk.is_syncing()), (None, Ok(0), true));
    disk.end_sync();
    assert_eq!((disk.durable(), disk.is_syncing()), (Ok(2), false));
    disk.end_sync();
    assert_eq!((disk.durable(), disk.begin_sync()), (Ok(2), Some(2)));
    disk.end_sync();
    assert_eq!((disk.durable(), disk.begin_sync()), (Ok(4), None));
}

#[test]
fn contract_3_a_crash_leaves_what_is_durable_and_anything_of_the_rest() {
    let (mut lengths, mut torn, mut whole) = (BTreeSet::new(), 0, 0);
    for seed in 0..2_000 {
        let mut disk = holding(&[1; 700]);
        disk.submit(&[2; 900]).unwrap();
        sync(&disk);
        disk.submit(&[3; 1000]).unwrap();
        let _ = disk.begin_sync();
        disk.submit(&[4; 500]).unwrap();
        disk.crash(&mut rng(seed, "disk"));
        let (left, submitted) = (disk.contents(), [vec![1; 700], vec![2; 900], vec![3; 1000], vec![4; 500]].concat());
        assert_eq!((left[..1600] == submitted[..1600], disk.durable_len()), (true, 1600), "seed {seed}");
        for start in (1536..left.len()).step_by(SECTOR) {
            let end = (start + SECTOR).min(left.len());
            let sector = start.max(1600)..end.max(1600);
            let (left, was) = (&left[sector.clone()], &submitted[sector]);
            assert!(left == was || left.iter().all(|byte| *byte == 0), "seed {seed}");
        }
        lengths.insert(left.len());
        torn += u32::from(left[1600..].contains(&0));
        whole += u32::from(left == submitted);
    }
    assert!(lengths.len() > 500 && torn > 500 && whole > 50, "{} lengths, {torn} torn, {whole} whole", lengths.len());
    assert!(lengths.contains(&1600) && lengths.contains(&3100));
}

#[test]
fn contract_4_reads_answer_what_is_durable_or_was_there_at_the_beginning() {
    let mut disk = holding(b"abc");
    disk.submit(b"de").unwrap();
    let past = |end| Err(DiskError::PastEnd { place: String::from("disk 1"), end });
    assert_eq!(read(&disk, 1, 2), Ok(b"bc".to_vec()));
    assert_eq!(read(&disk, 1, 3), past(4));
    assert_eq!(read(&disk, u64::MAX, 3), past(u64::MAX));
    let _ = disk.begin_sync();
    assert_eq!(read(&disk, 3, 1), past(4));
    disk.end_sync();
    assert_eq!(read(&disk, 0, 5), Ok(b"abcde".to_vec()));
    disk.submit(b"fg").unwrap();
    disk.crash_with(1, |_| true);
    assert_eq!((disk.durable_len(), read(&disk, 3, 3), read(&disk, 3, 4)), (5, Ok(b"def".to_vec()), past(7)));
}

#[test]
fn contract_5_the_first_failure_is_the_last_write() {
    let mut disk = holding(b"abc");
    disk.submit(b"de").unwrap();
    let _ = disk.begin_sync();
    disk.fail(io("first"));
    disk.fail(io("second"));
    assert_eq!((disk.durable(), disk.has_failed()), (Ok(3), false));
    disk.end_sync();
    assert!(disk.has_failed());
    disk.fail(io("third"));
    assert_eq!(disk.durable(), Err(io("first")));
    assert_eq!(disk.submit(b"f"), Err(io("first")));
    assert_eq!((disk.begin_sync(), disk.len(), disk.durable_len()), (None, 5, 3));
    assert_eq!(read(&disk, 0, 3), Ok(b"abc".to_vec()));
    disk.crash_with(0, |_| true);
    assert_eq!(disk.settle(3, b""), Ok(()));
    assert_eq!((disk.durable(), disk.submit(b"x")), (Ok(3), Ok(4)));
    sync(&disk);
    assert_eq!(disk.durable(), Ok(4));
}

#[test]
fn a_failure_while_nothing_runs_is_that_of_the_next_write() {
    let mut disk = disk();
    disk.fail(io("next"));
    assert_eq!((disk.durable(), disk.submit(b"a")), (Ok(0), Ok(1)));
    sync(&disk);
    assert_eq!(disk.durable(), Err(io("next")));
    disk.crash_with(0, |_| true);
    disk.fail(io("settling"));
    assert_eq!(disk.settle(0, b"abc"), Err(io("settling")));
    assert_eq!((disk.len(), disk.submit(b"a")), (0, Err(io("settling"))));
    disk.crash_with(0, |_| true);
    disk.fail(io("of a life that ends first"));
    disk.crash_with(0, |_| true);
    assert_eq!(disk.settle(0, b"abc"), Ok(()));
}

#[test]
fn contract_6_settle_makes_the_file_what_it_is_told_and_only_before_the_first_write() {
    let mut disk = holding(b"abcdef");
    disk.crash_with(0, |_| true);
    assert_eq!(disk.settle(2, b"xy"), Ok(()));
    assert_eq!((disk.contents(), disk.durable()), (b"abxy".to_vec(), Ok(4)));
    assert!(matches!(disk.settle(5, b""), Err(DiskError::PastEnd { .. })));
    disk.submit(b"z").unwrap();
    assert!(matches!(disk.settle(2, b""), Err(DiskError::Io { .. })));
    assert_eq!(disk.contents(), b"abxyz");
}

#[test]
fn a_full_disk_refuses_writes_until_another_life() {
    let mut disk = holding(b"abc");
    disk.submit(b"d").unwrap();
    let _ = disk.begin_sync();
    disk.set_full(true);
    let full = |what: &str| DiskError::Full { what: String::from(what) };
    assert_eq!(disk.submit(b"e"), Err(full("write to disk 1")));
    disk.end_sync();
    disk.set_full(false);
    assert_eq!((disk.durable(), disk.durable_len(), disk.len()), (Err(full("write to disk 1")), 3, 4));
    disk.crash_with(1, |_| true);
    disk.set_full(true);
    assert_eq!(disk.settle(4, b""), Err(full("settle disk 1")));
    disk.crash_with(1, |_| true);
    disk.set_full(false);
    assert_eq!((disk.settle(3, b"d"), disk.submit(b"e")), (Ok(()), Ok(5)));
}

#[test]
fn reads_fail_while_they_are_told_to() {
    let mut disk = holding(b"abc");
    disk.fail_reads(true);
    assert!(matches!(read(&disk, 0, 1), Err(DiskError::Io { .. })));
    assert_eq!(disk.submit(b"d"), Ok(4));
    disk.crash_with(1, |_| true);
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
            disk.submit(&[2; 2000]).unwrap();
            disk.fail(io("sync"));
            sync(&disk);
            disk.crash(&mut rng);
            let (len, shown) = (disk.len(), disk.contents());
            let kept = if rewrites { 600 } else { len };
            disk.settle(kept, &shown[kept as usize..]).unwrap();
            assert_eq!(disk.durable(), Ok(len));
            disk.crash(&mut rng);
            let lost = disk.contents() != shown;
            assert!(!(rewrites && lost), "seed {seed}");
            assert_eq!((disk.len(), &disk.contents()[..600]), (len, &[1_u8; 600][..]));
            looked_whole += u32::from(len == 2600 && !shown.contains(&0));
            went += u32::from(lost);
        }
    }
    assert!(looked_whole > 100 && went > 30, "{looked_whole}, {went}");
}

#[test]
fn a_wiped_disk_is_a_new_one() {
    let mut disk = holding(b"abc");
    disk.submit(b"d").unwrap();
    disk.fail(io("never"));
    disk.wipe();
    assert_eq!((disk.len(), disk.durable(), disk.writes(), disk.place()), (0, Ok(0), 1, String::from("disk 1")));
    assert_eq!(disk.settle(0, b"x"), Ok(()));
    assert_eq!(disk.rot(&mut rng(1, "rot")), None);
}

/// Only what the writer had been told of before a write that is durable by now.
#[test]
fn rot_spares_what_no_durable_write_vouches_for() {
    let mut disk = holding(&[0; 100]);
    let mut rng = rng(1, "rot");
    disk.submit(&[0; 50]).unwrap();
    assert_eq!(disk.rot(&mut rng), None);
    sync(&disk);
    // The first write vouches for the hundred.
    for _ in 0..500 {
        let at = disk.rot(&mut rng).unwrap();
        assert!(at < 100 && disk.contents()[100..].iter().all(|byte| *byte == 0));
    }
    // Durable, but the writer has not asked: the next write vouches for no more.
    disk.submit(&[0; 50]).unwrap();
    sync(&disk);
    assert!((0..500).all(|_| disk.rot(&mut rng).unwrap() < 100));
    assert_eq!(disk.durable(), Ok(200));
    disk.submit(&[0; 50]).unwrap();
    assert!((0..500).all(|_| disk.rot(&mut rng).unwrap() < 100));
    sync(&disk);
    assert!((0..500).any(|_| disk.rot(&mut rng).unwrap() >= 150));
    assert!(disk.contents()[200..].iter().all(|byte| *byte == 0));
    // A file that is cut before its last voucher has none.
    disk.crash_with(0, |_| true);
    let shown = disk.contents();
    disk.settle(150, &shown[150..240]).unwrap();
    assert_eq!(disk.rot(&mut rng), None);
}

/// A write that no sync had reached and that a crash left whole vouches from then on; one that the next life replaced does
/// not.
#[test]
fn a_write_vouches_in_the_next_life_if_it_is_still_there() {
    for (tail, vouches) in [(&b"frame"[..], true), (b"other", false), (b"fr", false)] {
        let mut disk = holding(&[0; 100]);
        disk.submit(b"frame").unwrap();
        disk.crash_with(5, |_| true);
        let mut rng = rng(1, "rot");
        assert_eq!(disk.rot(&mut rng), None);
        disk.settle(100, tail).unwrap();
        assert_eq!(disk.rot(&mut rng).is_some_and(|at| at < 100), vouches);
        // Whatever became of it, the next one does.
        disk.submit(b"x").unwrap();
        sync(&disk);
        assert!((0..500).any(|_| disk.rot(&mut rng).is_some_and(|at| at >= 100)));
    }
}

#[test]
fn rot_flips_one_to_eight_bits_of_one_place_or_of_several() {
    let (mut counts, mut near) = (BTreeSet::new(), 0);
    for seed in 0..400 {
        let mut disk = holding(&[0; 10_000]);
        disk.submit(b"x").unwrap();
        sync(&disk);
        let first = disk.rot(&mut rng(seed, "rot")).unwrap() as usize;
        let bytes = disk.contents();
        let flipped: Vec<usize> = (0..10_000).filter(|at| bytes[*at] != 0).collect();
        counts.insert(bytes[..10_000].iter().map(|byte| byte.count_ones()).sum::<u32>());
        assert_eq!(flipped.first(), Some(&first));
        near += u32::from(flipped.last().unwrap() - first <= ROTTEN_PLACE / 8);
    }
    assert_eq!((counts.first(), counts.last(), counts.len()), (Some(&1), Some(&8), 8));
    assert!((150..300).contains(&near), "{near}");
}

#[test]
fn equal_seeds_leave_equal_bytes() {
    let life = |seed| {
        let (mut rng, mut disk) = (rng(seed, "disk"), holding(&[7; 300]));
        for number in 0..20_u8 {
            disk.submit(&vec![number + 1; 200 + 31 * usize::from(number)]).unwrap();
            if number % 3 == 0 {
                sync(&disk);
                disk.durable().unwrap();
            }
            if number % 7 == 6 {
                disk.crash(&mut rng);
                let shown = disk.contents();
                let _ = disk.rot(&mut rng);
                disk.settle(0, &shown).unwrap();
            }
        }
        disk.crash(&mut rng);
        disk.contents()
    };
    assert_eq!(life(5), life(5));
    assert_ne!(life(5), life(6));
}

#[test]
fn a_crash_while_a_file_is_founded_leaves_any_of_it() {
    let left: BTreeSet<u64> = (0..100)
        .map(|seed| {
            let disk = holding(&[7; 100]);
            disk.crash_founding(&mut rng(seed, "disk"));
            assert_eq!(disk.durable_len(), 0);
            disk.len()
        })
        .collect();
    assert!(left.contains(&0) && left.contains(&100) && left.len() > 10, "{left:?}");
}
