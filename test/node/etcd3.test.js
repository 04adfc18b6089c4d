// What etcd3's README and reference document, against the member at ETCD_ENDPOINT, which is a fresh one of its own.
'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const node = require('node:test');
const { Etcd3, EtcdLockFailedError, EtcdLeaseInvalidError, EtcdPermissionDeniedError, EtcdAuthenticationFailedError, STMConflictError } = require('etcd3');

const hosts = process.env.ETCD_ENDPOINT;
const client = new Etcd3({ hosts });
const test = (name, run) => node.test(name, { timeout: 60000 }, run);
node.after(() => client.close());

test('a key in every type', async () => {
  await client.put('foo').value('bar');
  assert.equal(await client.get('foo').string(), 'bar');
  assert.equal(await client.get('foo'), 'bar');
  assert.deepEqual(await client.get('foo').buffer(), Buffer.from('bar'));
  await client.put('n').value(42);
  assert.equal(await client.get('n').number(), 42);
  await client.put('j').value(JSON.stringify({ a: [1] }));
  assert.deepEqual(await client.get('j').json(), { a: [1] });
  await client.put(Buffer.from([0, 255])).value(Buffer.from([1, 0, 254]));
  assert.deepEqual(await client.get(Buffer.from([0, 255])).buffer(), Buffer.from([1, 0, 254]));
  assert.equal(await client.get('none'), null);
  assert.equal(await client.get('none').exists(), false);
  assert.equal(await client.get('foo').exists(), true);
  const previous = await client.put('foo').value('baz').getPrevious();
  assert.equal(previous.value.toString(), 'bar');
  const rev = (await client.get('foo').exec()).header.revision;
  assert.equal(await client.get('foo').revision(Number(rev) - 1).serializable(true), 'bar');
  await assert.rejects(client.put('none').touch(), /key not found/);
  await client.put('foo').touch();
  assert.equal((await client.get('foo').exec()).kvs[0].version, '3');
});

test('many keys', async () => {
  for (const k of ['m/a', 'm/b', 'm/c', 'm/d']) await client.put(k).value(k.charCodeAt(2));
  assert.deepEqual(await client.getAll().prefix('m/').strings(), { 'm/a': '97', 'm/b': '98', 'm/c': '99', 'm/d': '100' });
  assert.deepEqual(await client.getAll().prefix('m/').numbers(), { 'm/a': 97, 'm/b': 98, 'm/c': 99, 'm/d': 100 });
  assert.deepEqual(await client.getAll().inRange({ start: 'm/b', end: 'm/d' }).keys(), ['m/b', 'm/c']);
  assert.deepEqual(await client.getAll().prefix('m/').sort('Key', 'Descend').limit(2).keys(), ['m/d', 'm/c']);
  assert.deepEqual(Object.keys(await client.getAll().prefix('m/').sort('Value', 'Ascend')), ['m/d', 'm/a', 'm/b', 'm/c']);
  assert.equal(await client.getAll().prefix('m/').count(), 4);
  assert.ok((await client.getAll().all().count()) >= 8);
  assert.equal((await client.delete().range(client.range({ start: 'm/a', end: 'm/c' }))).deleted, '2');
  assert.deepEqual((await client.delete().key('m/c').getPrevious()).map((kv) => kv.value.toString()), ['99']);
  assert.equal((await client.delete().prefix('m/')).deleted, '1');
});

test('conditions', async () => {
  await client.put('c').value('1');
  const yes = await client.if('c', 'Value', '==', '1').and('c', 'Version', '>', 0).and('none', 'Create', '==', 0)
    .then(client.put('c').value('2'), client.get('c')).else(client.put('c').value('no')).commit();
  assert.equal(yes.succeeded, true);
  assert.equal(yes.responses[1].response_range.kvs[0].value.toString(), '2');
  const no = await client.if('c', 'Value', '!=', '2').then(client.delete().key('c')).else(client.put('c').value('3')).commit();
  assert.equal(no.succeeded, false);
  assert.equal(await client.get('c'), '3');
});

test('namespaces', async () => {
  const ns = client.namespace('space/');
  await ns.put('x').value('1');
  assert.equal(await client.get('space/x'), '1');
  assert.deepEqual(await ns.getAll().all().strings(), { x: '1' });
  const w = await ns.watch().prefix('').create();
  const seen = once(w, 'put');
  await ns.namespace('deep/').put('y').value('2');
  assert.equal((await seen)[0].key.toString(), 'deep/y');
  await w.cancel();
  assert.equal((await ns.delete().all()).deleted, '2');
});

test('watches', async () => {
  const first = await client.put('w').value('0');
  const w = client.watch().key('w').withPreviousKV().startRevision(first.header.revision).watcher();
  const events = [];
  w.on('data', (res) => events.push(...res.events));
  await client.put('w').value('1');
  await client.delete().key('w');
  while (events.length < 3) await once(w, 'data');
  assert.deepEqual(events.map((e) => [e.type, e.kv.value.toString(), e.prev_kv && e.prev_kv.value.toString()]), [
    ['Put', '0', null], ['Put', '1', '0'], ['Delete', '', '1'],
  ]);
  await w.cancel();

  const puts = await client.watch().prefix('wp/').only('put').create();
  const put = once(puts, 'put');
  await client.put('wp/a').value('1');
  assert.equal((await put)[0].value.toString(), '1');
  await puts.cancel();
  const ranged = await client.watch().inRange({ start: 'wr/b', end: 'wr/c' }).create();
  const deleted = once(ranged, 'delete');
  await client.put('wr/bb').value('1');
  await client.delete().key('wr/bb');
  assert.equal((await deleted)[0].key.toString(), 'wr/bb');
  await ranged.cancel();
});

test('leases', async () => {
  const lease = client.lease(10);
  await lease.put('leased').value('1');
  assert.equal(await client.get('leased'), '1');
  const alive = await lease.keepaliveOnce();
  assert.equal(alive.TTL, '10');
  assert.ok((await client.leaseClient.leaseLeases()).leases.length >= 1);
  await lease.revoke();
  assert.equal(lease.revoked(), true);
  assert.equal(await client.get('leased'), null);

  const short = client.lease(5, { autoKeepAlive: false });
  const { header } = await short.put('short').value('1');
  const w = await client.watch().key('short').only('delete').startRevision(header.revision).create(); // it may be gone by now
  await once(w, 'delete');
  assert.equal(await client.get('short'), null);
  await w.cancel();
  await assert.rejects(short.keepaliveOnce(), EtcdLeaseInvalidError);

  const lost = client.lease(10);
  const id = await lost.grant();
  const loss = once(lost, 'lost');
  await client.leaseClient.leaseRevoke({ ID: id });
  await lost.keepaliveOnce().catch(() => {});
  assert.ok((await loss)[0] instanceof EtcdLeaseInvalidError);
});

test('locks', async () => {
  const held = await client.lock('mutex').ttl(10).acquire();
  assert.ok(await held.leaseId());
  await assert.rejects(client.lock('mutex').ttl(10).acquire(), EtcdLockFailedError);
  await held.release();
  assert.equal(await client.lock('mutex').do(async () => {
    await assert.rejects(client.lock('mutex').acquire(), EtcdLockFailedError);
    return 'done';
  }), 'done');
});

test('elections', async () => {
  const election = client.election('chief', 10);
  const one = election.campaign('one');
  await once(one, 'elected');
  assert.equal(await election.leader(), 'one');
  const observer = await election.observe();
  assert.equal(observer.leader(), 'one');
  await one.proclaim('one again');
  while (observer.leader() !== 'one again') await once(observer, 'change');
  const two = election.campaign('two');
  const elected = once(two, 'elected');
  await two.getCampaignKey();
  await one.resign();
  await elected;
  while (observer.leader() !== 'two') await once(observer, 'change');
  await observer.cancel();
  await two.resign();
  assert.equal(await election.leader(), undefined);
});

test('software transactions', async () => {
  await client.put('stm/a').value('10');
  await client.put('stm/b').value('0');
  // SerializableSnapshot, which is 0 and the default, takes any two keys that were written apart for a conflict.
  for (const isolation of [1, 2, 3]) { // Serializable, RepeatableReads, ReadCommitted
    await client.stm({ isolation }).transact(async (tx) => {
      const a = await tx.get('stm/a').number();
      const b = await tx.get('stm/b').number();
      await tx.put('stm/a').value(a - 1);
      await tx.put('stm/b').value(b + 1);
    });
  }
  assert.deepEqual(await client.getAll().prefix('stm/').numbers(), { 'stm/a': 7, 'stm/b': 3 });
  let tries = 0;
  await client.stm().transact(async (tx) => {
    const a = await tx.get('stm/a').number();
    if (++tries === 1) await client.put('stm/a').value(100); // in between: it has to try again
    await tx.put('stm/a').value(a + 1);
  });
  assert.equal(tries, 2);
  assert.equal(await client.get('stm/a').number(), 101);
  await assert.rejects(client.stm({ retries: 0 }).transact(async (tx) => {
    await tx.get('stm/a');
    await client.put('stm/a').value('outside');
    await tx.put('stm/a').value('inside');
  }), STMConflictError);
  assert.equal(await client.get('stm/a'), 'outside');
});

test('the cluster and its upkeep', async () => {
  const { members } = await client.cluster.memberList({});
  assert.equal(members.length, 1);
  const status = await client.maintenance.status();
  assert.equal(status.leader, members[0].ID);
  assert.match(status.version, /^3\./);
  const { header } = await client.put('compacted').value('1');
  await client.put('compacted').value('2');
  await client.kv.compact({ revision: Number(header.revision) + 1, physical: true });
  await assert.rejects(Promise.resolve(client.get('compacted').revision(header.revision)), /compacted/);
  await client.maintenance.defragment();
  assert.deepEqual((await client.maintenance.alarm({ action: 'Get', memberID: 0, alarm: 'None' })).alarms, []);
  assert.ok(Number((await client.maintenance.hash()).hash) >= 0);
  const blobs = [];
  const stream = await client.maintenance.snapshot();
  stream.on('data', (b) => blobs.push(b.blob));
  await once(stream, 'end');
  assert.ok(Buffer.concat(blobs).length > 16384);
});

test('users and roles', async () => {
  const role = await client.role('app').create();
  await role.grant([{ permission: 'Readwrite', range: client.range({ prefix: 'app/' }) }, { permission: 'Read', key: 'one' }]);
  assert.deepEqual((await role.permissions()).map((p) => p.permission), ['Readwrite', 'Read']);
  const user = await client.user('ann').create('pw');
  await user.addRole('app');
  assert.deepEqual((await user.roles()).map((r) => r.name), ['app']);
  await (await client.user('root').create('rootpw')).addRole('root');
  assert.deepEqual((await client.getUsers()).map((u) => u.name), ['ann', 'root']);
  assert.deepEqual((await client.getRoles()).map((r) => r.name), ['app']);
  await client.auth.authEnable();
  const root = new Etcd3({ hosts, auth: { username: 'root', password: 'rootpw' } });
  const ann = new Etcd3({ hosts, auth: { username: 'ann', password: 'pw' } });
  const wrong = new Etcd3({ hosts, auth: { username: 'ann', password: 'no' } });
  try {
    await ann.put('app/x').value('1');
    assert.equal(await ann.get('app/x'), '1');
    await assert.rejects(Promise.resolve(ann.put('one').value('1')), EtcdPermissionDeniedError);
    await assert.rejects(Promise.resolve(ann.get('other')), EtcdPermissionDeniedError);
    await assert.rejects(Promise.resolve(wrong.get('app/x')), EtcdAuthenticationFailedError);
    const w = await ann.watch().prefix('app/').create();
    const seen = once(w, 'put');
    await root.put('app/y').value('2');
    assert.equal((await seen)[0].key.toString(), 'app/y');
    await w.cancel();
    await root.user('ann').setPassword('new');
    const again = new Etcd3({ hosts, auth: { username: 'ann', password: 'new' } });
    assert.equal(await again.get('app/y'), '2');
    await root.role('app').revoke({ permission: 'Read', key: 'one' });
    await root.user('ann').removeRole('app');
    await assert.rejects(Promise.resolve(again.get('app/x')), EtcdPermissionDeniedError);
    again.close();
  } finally {
    await root.auth.authDisable();
    for (const c of [root, ann, wrong]) c.close();
  }
  await client.user('ann').delete();
  await client.role('app').delete();
  assert.deepEqual((await client.getUsers()).map((u) => u.name), ['root']);
});
