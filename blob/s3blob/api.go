package s3blob

// API returns the client that the store calls, for examinations that need its
// calls one by one.
func (s *Store) API() API { return s.api }
