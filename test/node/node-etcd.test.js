// What node-etcd's README documents of the v2 API, against the member at ETCD_ENDPOINT, which is a fresh one of its own.
'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const node = require('node:test');
const Etcd = require('node-etcd');

const etcd = new Etcd([process.env.ETCD_ENDPOINT]);

const test = (name, run) => node.test(name, { timeout: 60000 }, run);

// call gives [error, answer, headers] of a method, whose last argument is a callback.
const call = (name, ...args) => new Promise((done) => etcd[name](...args, (err, body, headers) => done([err, body, headers])));
const ok = async (name, ...args) => {
  const [err, body, headers] = await call(name, ...args);
  assert.equal(err, null, `${name} ${args}: ${err && err.message}`);
  return Object.assign(body, { headers });
};
const refused = async (code, name, ...args) => {
  const [err] = await call(name, ...args);
  assert.equal(err && err.errorCode, code, `${name} ${args}: ${err && err.message}`);
  return err;
};

test('keys', async () => {
  const set = await ok('set', 'key', 'value');
  assert.equal(set.action, 'set');
  assert.equal(Number(set.headers['x-etcd-index']), set.node.modifiedIndex);
  assert.equal((await ok('get', 'key')).node.value, 'value');
  const timed = await ok('set', 'key', 'other', { ttl: 60 });
  assert.equal(timed.prevNode.value, 'value');
  assert.ok(timed.node.ttl > 50 && timed.node.ttl <= 60);
  assert.equal((await ok('del', 'key')).prevNode.value, 'other');
  assert.equal((await refused(100, 'get', 'key')).error.cause, '/key');
  await refused(100, 'set', 'key', 'x', { prevExist: true });
});

test('compare and swap, compare and delete', async () => {
  await ok('set', 'cas', '1');
  assert.equal((await ok('compareAndSwap', 'cas', '2', '1')).action, 'compareAndSwap');
  await refused(101, 'compareAndSwap', 'cas', '3', '1');
  await refused(101, 'testAndSet', 'cas', '3', '1');
  await refused(101, 'compareAndDelete', 'cas', '1');
  assert.equal((await ok('compareAndDelete', 'cas', '2')).action, 'compareAndDelete');
});

test('directories', async () => {
  assert.equal((await ok('mkdir', 'dir')).node.dir, true);
  await refused(102, 'mkdir', 'dir');
  await ok('set', 'dir/a', '1');
  await ok('set', 'dir/deep/b', '2');
  const all = await ok('get', 'dir', { recursive: true });
  assert.deepEqual(all.node.nodes.map((n) => n.key).sort(), ['/dir/a', '/dir/deep']);
  await refused(108, 'rmdir', 'dir');
  assert.equal((await ok('rmdir', 'dir', { recursive: true })).action, 'delete');
  await refused(100, 'get', 'dir');
});

test('keys in order', async () => {
  const made = [];
  for (const v of ['first', 'next', 'last']) made.push((await ok('create', 'queue', v)).node.key);
  assert.deepEqual([...made].sort(), made);
  const list = await ok('get', 'queue', { sorted: true });
  assert.deepEqual(list.node.nodes.map((n) => n.value), ['first', 'next', 'last']);
});

test('watches', async () => {
  const seen = call('watch', 'watched');
  const writes = setInterval(() => etcd.set('watched', 'hi'), 50); // until one comes after the watch
  const [err, change] = await seen;
  clearInterval(writes);
  assert.equal(err, null);
  assert.equal(change.node.value, 'hi');
  const past = await ok('watchIndex', 'watched', change.node.modifiedIndex);
  assert.deepEqual(past.node, change.node);

  const watcher = etcd.watcher('tree', change.node.modifiedIndex, { recursive: true });
  const events = [];
  watcher.on('change', (e) => events.push([e.action, e.node.key, e.node.value]));
  const deleted = once(watcher, 'delete');
  await ok('set', 'tree/a', '1');
  await ok('set', 'tree/b', '2', { ttl: 60 });
  await ok('del', 'tree/a');
  await deleted;
  watcher.stop();
  assert.deepEqual(events, [['set', '/tree/a', '1'], ['set', '/tree/b', '2'], ['delete', '/tree/a', undefined]]);
});

test('a key expires', async () => {
  const { node } = await ok('set', 'fleeting', 'x', { ttl: 1 });
  const gone = await ok('watchIndex', 'fleeting', node.modifiedIndex + 1);
  assert.equal(gone.action, 'expire');
  assert.equal(gone.prevNode.value, 'x');
});

test('the cluster', async () => {
  await refused(100, 'machines'); // it asks for a key that etcd 0.4 had
  const self = await ok('selfStats');
  assert.equal(self.state, 'StateLeader');
  assert.equal((await ok('leaderStats')).leader, self.id);
  assert.match((await ok('version')).etcdserver, /^3\./);
});

test('synchronous calls', () => {
  assert.equal(etcd.setSync('sync', 'value', { ttl: 60 }).body.node.value, 'value');
  assert.equal(etcd.getSync('sync').body.node.value, 'value');
  assert.equal(etcd.mkdirSync('syncdir').body.node.dir, true);
  assert.equal(etcd.rmdirSync('syncdir').err, null);
  assert.equal(etcd.delSync('sync').body.action, 'delete');
  assert.equal(etcd.getSync('sync').err.errorCode, 100);
});
