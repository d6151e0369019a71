# Run by test_resolve.py in fresh mount, network and process namespaces: a DNS server of its own, then "$@".
#   RESOLV   the resolv.conf to use     LOG   a new file for dnsmasq's log     DNSMASQ, IP   the programs
# dnsmasq ends with the process namespace. It stays in the foreground because it may not change its group here. It hands
# silent.test on to a port that "$@" opens and never reads; names it knows nothing of it refuses.
: >"$LOG"
"$IP" link set lo up
mount --bind "$RESOLV" /etc/resolv.conf
"$DNSMASQ" --no-daemon --conf-file=/dev/null \
    --listen-address=127.0.0.1 --bind-interfaces --no-resolv --no-hosts \
    --host-record=both.test,192.0.2.7,2001:db8::7 --host-record=up.corp.test,192.0.2.9 \
    --address=/absent.test/ --local=/up/ --server=/silent.test/127.0.0.1#5353 2>"$LOG" &
until grep -q ': started,' "$LOG"; do
    kill -0 $! || { cat "$LOG" >&2; exit 1; }
    sleep 0.02
done
"$@"
