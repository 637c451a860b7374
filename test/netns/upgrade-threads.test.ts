// The suite beside it, with two threads that serve.

process.env.CULVERT_TEST_THREADS = '2';
await import('./upgrade.test.ts');
