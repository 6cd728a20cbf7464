//! Redis's protocol, as a library that knows nothing of this project uses it, and as no library would.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::{Connection, RedisResult, cmd, pipe};

use crate::support::{Cluster, wait_for};

/// Servers 1 to 3, which serve Redis clients.
pub fn cluster() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.redis = true;
    (1..=3).for_each(|id| cluster.start_server(id));
    cluster.leader();
    cluster
}

/// A connection of the library's, to one server.
fn connect(port: u16) -> RedisResult<Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(connection)
}

/// Each command of the library, and what it means to the next.
fn use_all(connection: &mut Connection, name: &str) -> RedisResult<()> {
    let key = |what: &str| format!("{name}:{what}");
    let binary: Vec<u8> = (0..=255).collect();
    cmd("SET").arg(key("a")).arg(&binary).exec(connection)?;
    assert_eq!(cmd("GET").arg(key("a")).query::<Vec<u8>>(connection)?, binary);
    assert_eq!(cmd("GET").arg(key("none")).query::<Option<String>>(connection)?, None);
    cmd("MSET").arg(key("b")).arg("1").arg(key("c")).arg("2").exec(connection)?;
    let found: Vec<Option<String>> = cmd("MGET").arg(key("b")).arg(key("none")).arg(key("c")).query(connection)?;
    assert_eq!(found, [Some("1".into()), None, Some("2".into())]);
    assert_eq!(cmd("EXISTS").arg(key("a")).arg(key("none")).arg(key("a")).query::<u64>(connection)?, 2);
    assert_eq!(cmd("INCR").arg(key("b")).query::<i64>(connection)?, 2);
    assert_eq!(cmd("INCRBY").arg(key("new")).arg(-5).query::<i64>(connection)?, -5);
    let refused = cmd("INCR").arg(key("a")).query::<i64>(connection).unwrap_err().to_string();
    assert!(refused.contains("not an integer"), "{refused}");
    assert_eq!(cmd("CAS").arg(key("b")).arg("1").arg("9").query::<i64>(connection)?, 0);
    assert_eq!(cmd("CAS").arg(key("b")).arg("2").arg("9").query::<i64>(connection)?, 1);
    assert_eq!(cmd("CAS").arg(key("none")).arg("").arg("9").query::<i64>(connection)?, 0);
    assert_eq!(cmd("DEL").arg(key("c")).arg(key("none")).arg(key("new")).query::<i64>(connection)?, 2);

    // In one pipeline each command sees what those before it did.
    let piped: (i64, i64, String, i64, Option<String>, i64, String) = pipe()
        .cmd("INCR")
        .arg(key("n"))
        .cmd("INCR")
        .arg(key("n"))
        .cmd("GET")
        .arg(key("n"))
        .cmd("DEL")
        .arg(key("n"))
        .cmd("GET")
        .arg(key("n"))
        .cmd("CAS")
        .arg(key("b"))
        .arg("9")
        .arg("10")
        .cmd("GET")
        .arg(key("b"))
        .query(connection)?;
    assert_eq!(piped, (1, 2, "2".into(), 1, None, 1, "10".into()));
    Ok(())
}

/// Every key that fits, a page at a time.
fn scan(connection: &mut Connection, pattern: &str, count: u32) -> RedisResult<Vec<String>> {
    let (mut cursor, mut found) = (0_u64, Vec::new());
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
        let (next, keys): (u64, Vec<String>) = scan.query(connection)?;
        found.extend(keys);
        cursor = next;
        if cursor == 0 {
            return Ok(found);
        }
    }
}

#[test]
fn a_redis_library_uses_any_server_and_goes_on_when_the_leader_is_killed() {
    let mut cluster = cluster();
    for id in 1..=3 {
        let mut connection = connect(cluster.redis_port(id)).unwrap();
        use_all(&mut connection, &format!("s{id}")).unwrap();
    }
    let leader = cluster.leader();
    let followers: Vec<u16> = (1..=3).filter(|id| *id != leader).collect();
    let mut others: Vec<Connection> = followers.iter().map(|id| connect(cluster.redis_port(*id)).unwrap()).collect();
    let mut pipeline = pipe();
    (0..300).for_each(|n| _ = pipeline.cmd("SET").arg(format!("page:{n:03}")).arg(n));
    pipeline.exec(&mut others[0]).unwrap();
    let expected: Vec<String> = (0..300).map(|n| format!("page:{n:03}")).collect();
    assert_eq!(scan(&mut others[1], "page:*", 7).unwrap(), expected);
    assert_eq!(scan(&mut others[1], "p?ge:[01]*5", 1000).unwrap().len(), 20);
    // Both of these know what the other was told, whoever leads.
    cluster.kill(leader);
    for (turn, connection) in others.iter_mut().enumerate() {
        let name = format!("later{turn}");
        // On a busy machine an election may take longer than a server tries: then it says that nothing was done.
        wait_for("a write without the leader", || cmd("SET").arg("last").arg(&name).exec(connection).ok());
        use_all(connection, &name).unwrap();
    }
    assert_eq!(cmd("GET").arg("last").query::<String>(&mut others[0]).unwrap(), "later1");
    let info: String = cmd("INFO").query(&mut others[0]).unwrap();
    let leader = cluster.leader();
    assert!(info.contains(&format!("raft_leader:{leader}\r\n")), "{info}");
    assert!(info.contains("\r\ndb0:keys="), "{info}");
    cluster.start_server((1..=3).find(|id| !followers.contains(id)).unwrap());
    cluster.converged();
}

#[test]
fn ordinary_clients_and_redis_clients_see_the_same_bytes() {
    let cluster = cluster();
    let mut connection = connect(cluster.redis_port(1)).unwrap();
    cmd("SET").arg("k").arg(b"v\xff").exec(&mut connection).unwrap();
    assert_eq!(cluster.client(1, &["get", "b'k'"]).ok()["result"], r"b'v\xff'");
    for (literal, expected) in [("b'x'", "x"), ("'text'", "text"), ("-12", "-12")] {
        cluster.client(1, &["put", "b'k'", literal]).ok();
        assert_eq!(cmd("GET").arg("k").query::<String>(&mut connection).unwrap(), expected);
    }
    assert_eq!(cmd("INCR").arg("k").query::<i64>(&mut connection).unwrap(), -11);
    assert_eq!(cluster.client(1, &["get", "b'k'"]).ok()["result"], "-11");
    cluster.client(1, &["put", "b'k'", "[1]"]).ok();
    let refused = cmd("GET").arg("k").query::<String>(&mut connection).unwrap_err();
    assert_eq!(refused.code(), Some("WRONGTYPE"), "{refused}");
    cluster.client(1, &["put", "'a str'", "1"]).ok();
    assert_eq!(scan(&mut connection, "*", 10).unwrap(), ["k"]);
    assert_eq!(cmd("DBSIZE").query::<u64>(&mut connection).unwrap(), 2);
}

/// Several count the same thing through all servers, while whoever leads is killed: no increment that was answered is
/// lost, none is done twice.
#[test]
fn c1_every_increment_counts_once_while_leaders_are_killed() {
    let mut cluster = cluster();
    let (stop, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let ports: Vec<u16> = (1..=3).map(|id| cluster.redis_port(id)).collect();
    let counters: Vec<_> = (0..6)
        .map(|n| {
            let (stop, counted, port) = (Arc::clone(&stop), Arc::clone(&counted), ports[n % 3]);
            std::thread::spawn(move || {
                let (mut seen, mut unknown, mut connection) = (Vec::new(), 0, connect(port).ok());
                while !stop.load(Ordering::Relaxed) {
                    let Some(open) = &mut connection else {
                        std::thread::park_timeout(Duration::from_millis(20));
                        connection = connect(port).ok();
                        continue;
                    };
                    match cmd("INCR").arg("n").query::<u64>(open) {
                        Ok(sum) => {
                            seen.push(sum);
                            counted.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) if error.code() == Some("TRYAGAIN") => {}
                        // A connection that broke, with its server, or `UNKNOWN`.
                        Err(_) => {
                            unknown += 1;
                            connection = None;
                        }
                    }
                }
                (seen, unknown)
            })
        })
        .collect();
    for _ in 0..3 {
        let before = counted.load(Ordering::Relaxed);
        wait_for("increments", || (counted.load(Ordering::Relaxed) > before + 200).then_some(()));
        let leader = cluster.leader();
        cluster.kill(leader);
        let before = counted.load(Ordering::Relaxed);
        wait_for("increments without the leader", || (counted.load(Ordering::Relaxed) > before + 100).then_some(()));
        cluster.start_server(leader);
    }
    stop.store(true, Ordering::Relaxed);
    let (mut seen, mut all, mut unknown) = (BTreeSet::new(), 0, 0);
    for counter in counters {
        let (sums, perhaps) = counter.join().unwrap();
        assert!(sums.is_sorted(), "one connection after the other sees the number grow");
        all += sums.len() as u64;
        unknown += perhaps;
        seen.extend(sums);
    }
    assert_eq!(seen.len() as u64, all, "no number was given twice");
    cluster.leader();
    let sum: u64 = cmd("GET").arg("n").query(&mut connect(ports[0]).unwrap()).unwrap();
    assert!((all..=all + unknown).contains(&sum), "{all} counted, {unknown} unknown, {sum} stored");
}

/// What comes back for these bytes until the connection closes, or as much of it as there is to be.
fn exchange(port: u16, sent: &[u8], len: Option<usize>) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.write_all(sent).unwrap();
    let mut found = vec![0; len.unwrap_or_default()];
    match len {
        Some(_) => socket.read_exact(&mut found).unwrap(),
        None => _ = socket.read_to_end(&mut found).unwrap(),
    }
    found
}

#[test]
fn n2_what_is_no_command_closes_its_connection_alone() {
    let cluster = cluster();
    let port = cluster.redis_port(1);
    for (sent, expected) in [
        ("PING\r\nQUIT\r\nPING\r\n", "+PONG\r\n+OK\r\n"),
        ("set k v\r\n*1\r\n:1\r\nPING\r\n", "+OK\r\n-ERR Protocol error: expected '$', got ':'\r\n"),
        ("get k\r\n*3000\r\n", "$1\r\nv\r\n-ERR Protocol error: invalid multibulk length\r\n"),
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\nset k w\r\n", ""),
        ("get 'k\r\nset k w\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        ("nope\r\nget k\r\nquit\r\n", "-ERR unknown command 'nope', with args beginning with: \r\n$1\r\nv\r\n+OK\r\n"),
    ] {
        assert_eq!(String::from_utf8(exchange(port, sent.as_bytes(), None)).unwrap(), expected, "{sent}");
    }
    // What is wrong is heard of, however much follows it.
    let sent = [b"*x\r\n".to_vec(), vec![b'x'; 1 << 20]].concat();
    assert_eq!(exchange(port, &sent, None), b"-ERR Protocol error: invalid multibulk length\r\n");
    let mut connection = connect(port).unwrap();
    assert_eq!(cmd("GET").arg("k").query::<String>(&mut connection).unwrap(), "v");
}

/// A library sends the whole of a pipeline before it reads any of the replies, which are longer here than what the system
/// keeps for a socket.
#[test]
fn n5_a_long_pipeline_is_answered_although_nothing_is_read_meanwhile() {
    let cluster = cluster();
    let (port, value) = (cluster.redis_port(1), "v".repeat(100_000));
    let mut sent = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n{value}\r\n").into_bytes();
    let filler = "x".repeat(20_000);
    for _ in 0..60 {
        sent.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
        sent.extend_from_slice(format!("*2\r\n$4\r\nECHO\r\n$20000\r\n{filler}\r\n").as_bytes());
    }
    let expected = format!("+OK\r\n{}", format!("$100000\r\n{value}\r\n$20000\r\n{filler}\r\n").repeat(60));
    assert!(exchange(port, &sent, Some(expected.len())) == expected.as_bytes());
}

/// Redis clients have a budget of their own: one more is told so, and ordinary clients are served as ever.
#[test]
fn n7_redis_clients_that_are_too_many_are_told_so_and_keep_nobody_else_out() {
    let cluster = cluster();
    let port = cluster.redis_port(1);
    let mut open: Vec<TcpStream> = (0..512).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    assert_eq!(exchange(port, b"", None), b"-ERR max number of clients reached\r\n");
    cluster.client(1, &["put", "1", "2"]).ok();
    // Each of those that are there is served.
    let last = open.last_mut().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    last.write_all(b"SET k v\r\n").unwrap();
    let mut reply = [0; 5];
    last.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+OK\r\n");
    open.clear();
    let is_served = || cmd("PING").query::<String>(&mut connect(port).ok()?).ok();
    assert_eq!(wait_for("room for one more", is_served), "PONG");
}
