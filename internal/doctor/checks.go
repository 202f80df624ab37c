package doctor

// Names of the checks, which scripts may rely on.
const (
	nameSettings       = "settings"
	nameDatabase       = "database"
	nameVersion        = "database version"
	nameRights         = "database rights"
	nameSchema         = "schema"
	nameDatabaseClock  = "database clock"
	nameConnections    = "database connections"
	nameNotify         = "notifications"
	nameCorrupt        = "corrupt files"
	nameTLS            = "s3 tls"
	nameBucket         = "bucket"
	nameClock          = "s3 clock"
	nameVersioning     = "versioning"
	namePut            = "put"
	nameGet            = "get"
	nameHead           = "head"
	nameList           = "list"
	nameListUnfinished = "list unfinished"
	nameDelete         = "delete"
	nameDeleteMany     = "delete many"
	nameCreate         = "multipart create"
	namePart           = "multipart part"
	nameComplete       = "multipart complete"
	nameAbort          = "multipart abort"
	nameChecksum       = "checksum"
	nameConditional    = "conditional writes"
	namePresign        = "presign"
	namePublicTLS      = "public tls"
	namePublicPresign  = "public presign"
	nameDirect         = "direct uploads"
	nameUnfinished     = "lifecycle unfinished"
	nameExpiry         = "lifecycle objects"
	nameCORS           = "cors"
	namePublicAccess   = "public access"
	nameProbes         = "probes"
)

// checks are all lines in their order.
func checks(bucket bool) []check {
	list := []check{
		{name: nameSettings, run: (*Doctor).checkSettings},
		{name: nameDatabase, run: (*Doctor).checkDatabase},
		{name: nameVersion, needs: []string{nameDatabase}, run: (*Doctor).checkVersion},
		{name: nameRights, needs: []string{nameDatabase}, run: (*Doctor).checkRights},
		{name: nameSchema, needs: []string{nameDatabase, nameRights}, run: (*Doctor).checkSchema},
		{name: nameDatabaseClock, needs: []string{nameDatabase}, run: (*Doctor).checkDatabaseClock},
		{name: nameConnections, needs: []string{nameDatabase}, run: (*Doctor).checkConnections},
		{name: nameNotify, needs: []string{nameDatabase}, run: (*Doctor).checkNotify},
		{name: nameCorrupt, needs: []string{nameSchema}, run: (*Doctor).checkCorrupt},
	}
	if !bucket {
		return append(list, check{name: nameBucket, run: (*Doctor).noBucket})
	}
	return append(list,
		check{name: nameTLS, run: (*Doctor).checkTLS},
		check{name: nameBucket, needs: []string{nameTLS}, run: (*Doctor).checkBucket},
		check{name: nameClock, needs: []string{nameTLS}, run: (*Doctor).checkClock},
		check{name: nameVersioning, needs: []string{nameBucket}, run: (*Doctor).checkVersioning},
		check{name: namePut, needs: []string{nameBucket}, run: (*Doctor).checkPut},
		check{name: nameGet, needs: []string{namePut}, run: (*Doctor).checkGet},
		check{name: nameHead, needs: []string{namePut}, run: (*Doctor).checkHead},
		check{name: nameList, needs: []string{nameBucket}, run: (*Doctor).checkList},
		check{name: nameListUnfinished, needs: []string{nameBucket}, run: (*Doctor).checkListUnfinished},
		check{name: nameDelete, needs: []string{namePut}, run: (*Doctor).checkDelete},
		check{name: nameDeleteMany, needs: []string{namePut}, run: (*Doctor).checkDeleteMany},
		check{name: nameCreate, needs: []string{nameBucket}, run: (*Doctor).checkCreate},
		check{name: namePart, needs: []string{nameCreate}, run: (*Doctor).checkPart},
		check{name: nameComplete, needs: []string{namePart}, run: (*Doctor).checkComplete},
		check{name: nameAbort, needs: []string{nameCreate}, run: (*Doctor).checkAbort},
		check{name: nameChecksum, needs: []string{namePut, nameHead}, run: (*Doctor).checkChecksum},
		check{name: nameConditional, needs: []string{namePut, nameDelete}, run: (*Doctor).checkConditional},
		check{name: namePresign, needs: []string{namePut, nameGet}, run: (*Doctor).checkPresign},
		check{name: namePublicTLS, needs: []string{nameBucket}, run: (*Doctor).checkPublicTLS},
		check{name: namePublicPresign, needs: []string{namePublicTLS, namePut, nameGet}, run: (*Doctor).checkPublicPresign},
		check{name: nameDirect, needs: []string{namePut, nameGet, nameHead, nameDelete, namePresign}, run: (*Doctor).checkDirect},
		check{name: nameUnfinished, needs: []string{nameBucket}, run: (*Doctor).checkUnfinished},
		check{name: nameExpiry, needs: []string{nameBucket}, run: (*Doctor).checkExpiry},
		check{name: nameCORS, needs: []string{nameBucket, namePublicTLS}, run: (*Doctor).checkCORS},
		check{name: namePublicAccess, needs: []string{namePut}, run: (*Doctor).checkPublicAccess},
		check{name: nameProbes, always: true, run: (*Doctor).removeProbes},
	)
}
