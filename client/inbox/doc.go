// Package inbox receives a workspace's files into a folder and its messages into a
// handler, on a machine that sleeps, loses its network, fills its disk and is
// killed.
//
//	c, err := client.New(client.Config{BaseURL: server, Workspace: id, Token: token})
//	in, err := inbox.New(inbox.Config{
//		Client: c, Dir: "/home/me/inbox",
//		Handler: func(ctx context.Context, m inbox.Message) error { return agent.Ask(ctx, m.Text, m.Files) },
//	})
//	err = in.Run(ctx)
//
// # Promises
//
//  1. A file is visible in the folder complete or not at all. Until it is complete
//     and on the disk it is called .pendinguploads-<file id>.part, mode 0600. A
//     fetch that ends early goes on there, in the next run too.
//  2. A file is acknowledged after it is in the folder for good, with its size and
//     SHA-256. One that the service does not recognise is removed and fetched again.
//  3. Nothing in the folder is overwritten: a second report.txt is report-2.txt.
//  4. Wherever the process is killed, the next Run goes on from there: every file
//     once, every message once. A message comes again only if the process died
//     while its handler ran, or before that it was done could be written down.
//     OnFile is told of every file at least once; again, if the process died before
//     that could be written down.
//  5. A message comes after the files that were announced before it have been tried,
//     and messages come in order. A file that cannot be had for now does not keep it
//     back; it is fetched later, until the service has it no more. Nor does a message
//     that takes its time keep files back: 256 rows are read ahead of it.
//  6. Where the disk is full, the folder read-only or gone, nothing is half there
//     and nothing is acknowledged; OnTrouble says what is wrong, and the inbox goes on
//     when it is put right. A folder that vanished is not made again: it may be a disk
//     that is not mounted.
//
// Content that is not what was announced is fetched five times, with pauses of
// minutes, and then given up.
//
// Two inboxes with folders of their own may work for one workspace. The service
// gives a file to whoever comes first, and perhaps to both; the other one is told
// that the file is gone. They share one number up to which the feed is acked, so
// the service may prune what the slower one has not seen.
//
// # The journal
//
// One file beside the folder, JSON lines, appended and now and then written anew,
// keeps the cursor of the feed, what is known of each file, and which messages
// were handled. The first line names the format and the workspace:
//
//	{"v":1,"workspace":"…"}
//	{"file":{"id":"…","uri":"platform-pending:…","name":"a.txt","size":5,"seq":7,"seen":"…","stage":"pending"}}
//	{"row":"…","seq":7,"at":"…"}
//	{"file":{…,"stage":"pending","etag":"…"}}
//	{"file":{…,"stage":"placing","as":"a.txt","bytes":5,"sha256":"…"}}
//	{"file":{…,"stage":"placed",…}}
//	{"file":{…,"stage":"acked",…}}
//	{"row":"…","seq":8,"at":"…","handled":true}
//
// A line is a fact, whole or not there. A torn last line is dropped; damage
// elsewhere ends Run with an error that names the line. The journal knows a file's
// name before the folder does: after a crash, if the folder has a file of that
// name with that digest, it is the one; else it is fetched anew.
//
// Of finished files the last 1,024 stay known by name, so that later messages that
// cite them are rewritten, and 4,096 more, and as many messages, by id. What lies
// further back in a feed which begins again is known by its number and time: those
// that the cursor had come to. So it brings nothing twice, and what a feed that
// counts anew brings, such as that of another database, is new.
package inbox
